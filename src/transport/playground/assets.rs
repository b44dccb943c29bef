//! The pages of `serve --dev`, embedded: the playground at `/`, the chat of `examples/chat` at `/chat/`.
//!
//! To add a file, give it a row in [`FILES`]. Two of them are bundles that `make pages` writes, so that
//! a build of the gateway does without Node.js: `bobolink.js`, which is the JavaScript SDK, and the
//! chat's script and style.

/// A file of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// The whole request path it is served at.
    pub path: &'static str,
    pub content_type: &'static str,
    pub body: &'static [u8],
}

/// What a page may do: load its own files and speak to its own server, over HTTP and WebSocket.
/// Nothing is inline, so nothing inline is allowed.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Every file, the playground's page first.
pub const FILES: &[Asset] = &[
    file("/", HTML, include_bytes!("index.html")),
    file("/playground/logo.svg", SVG, include_bytes!("logo.svg")),
    file("/playground/colours.css", CSS, include_bytes!("colours.css")),
    file("/playground/playground.css", CSS, include_bytes!("playground.css")),
    file("/playground/playground.js", JS, include_bytes!("playground.js")),
    file("/playground/away.js", JS, include_bytes!("away.js")),
    file("/playground/bobolink.js", JS, include_bytes!("bobolink.js")),
    file("/playground/connection.js", JS, include_bytes!("connection.js")),
    file("/playground/dom.js", JS, include_bytes!("dom.js")),
    file("/playground/feed.js", JS, include_bytes!("feed.js")),
    file("/playground/frames.js", JS, include_bytes!("frames.js")),
    file("/playground/guide.js", JS, include_bytes!("guide.js")),
    file("/playground/inspector.js", JS, include_bytes!("inspector.js")),
    file("/playground/json.js", JS, include_bytes!("json.js")),
    file("/playground/snippets.js", JS, include_bytes!("snippets.js")),
    file("/playground/theme.js", JS, include_bytes!("theme.js")),
    file("/playground/wire.js", JS, include_bytes!("wire.js")),
    file("/chat/", HTML, include_bytes!("../../../examples/chat/index.html")),
    file("/chat/chat.css", CSS, include_bytes!("../../../examples/chat/dist/chat.css")),
    file("/chat/chat.js", JS, include_bytes!("../../../examples/chat/dist/chat.js")),
];

/// The file served at a request path, if it is one of the pages'.
pub fn find(path: &str) -> Option<&'static Asset> {
    FILES.iter().find(|asset| asset.path == path)
}

const fn file(path: &'static str, content_type: &'static str, body: &'static [u8]) -> Asset {
    Asset { path, content_type, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(asset: &Asset) -> &'static str {
        std::str::from_utf8(asset.body).expect("the pages' files are text")
    }

    fn pages() -> impl Iterator<Item = &'static Asset> {
        FILES.iter().filter(|asset| asset.content_type == HTML)
    }

    /// The quoted strings that follow `marker`.
    fn quoted_after<'a>(text: &'a str, marker: &str, quote: char) -> Vec<&'a str> {
        text.split(marker).skip(1).filter_map(|rest| rest.split(quote).next()).collect()
    }

    #[test]
    fn every_file_a_page_names_is_served() {
        for page in pages() {
            let named = [" src=\"", " href=\"/"]
                .map(|marker| quoted_after(text(page), marker, '"'))
                .concat();
            assert!(named.len() >= 4, "{}: found only {named:?}", page.path);
            for name in named {
                let path = format!("/{}", name.trim_start_matches('/'));
                assert!(find(&path).is_some(), "{} names {path}, which is not in FILES", page.path);
            }
        }
    }

    #[test]
    fn every_module_a_script_imports_is_served() {
        let mut imports = 0;
        for script in FILES.iter().filter(|asset| asset.content_type == JS) {
            for name in quoted_after(text(script), "from './", '\'') {
                imports += 1;
                let path = format!("/playground/{name}");
                assert!(find(&path).is_some(), "{} imports {path}, not in FILES", script.path);
            }
        }
        assert!(imports > 10, "found only {imports} imports");
    }

    #[test]
    fn no_page_has_what_its_policy_forbids() {
        assert_eq!(pages().count(), 2);
        for page in pages() {
            let (path, page) = (page.path, text(page));
            for inline in ["<style", " style=", " onclick=", " onload=", " onerror=", "javascript:"]
            {
                assert!(!page.contains(inline), "{path} has {inline}");
            }
            assert_eq!(
                page.matches("<script").count(),
                page.matches("<script type=\"module\" src=").count(),
                "{path}"
            );
        }
    }

    #[test]
    fn messages_cannot_become_markup() {
        for script in FILES.iter().filter(|asset| asset.content_type == JS) {
            for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!text(script).contains(way), "{} uses {way}", script.path);
            }
        }
    }
}
