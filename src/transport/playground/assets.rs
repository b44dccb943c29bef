//! The playground's files, embedded: what `serve --dev` shows at `/`.
//!
//! To add a file, put it into this folder and give it a row in [`FILES`].

/// A file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// The whole request path it is served at.
    pub path: &'static str,
    pub content_type: &'static str,
    pub body: &'static [u8],
}

/// What the page may do: load its own files and speak to its own server, over HTTP and WebSocket.
/// Nothing is inline, so nothing inline is allowed.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Every file, the page itself first.
pub const FILES: &[Asset] = &[
    file("/", HTML, include_bytes!("index.html")),
    file("/playground/logo.svg", SVG, include_bytes!("logo.svg")),
    file("/playground/playground.css", CSS, include_bytes!("playground.css")),
    file("/playground/playground.js", JS, include_bytes!("playground.js")),
    file("/playground/away.js", JS, include_bytes!("away.js")),
    file("/playground/client.js", JS, include_bytes!("client.js")),
    file("/playground/dom.js", JS, include_bytes!("dom.js")),
    file("/playground/feed.js", JS, include_bytes!("feed.js")),
    file("/playground/frames.js", JS, include_bytes!("frames.js")),
    file("/playground/guide.js", JS, include_bytes!("guide.js")),
    file("/playground/inspector.js", JS, include_bytes!("inspector.js")),
    file("/playground/json.js", JS, include_bytes!("json.js")),
    file("/playground/snippets.js", JS, include_bytes!("snippets.js")),
    file("/playground/theme.js", JS, include_bytes!("theme.js")),
];

/// The file served at a request path, if it is one of the page's.
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
        std::str::from_utf8(asset.body).expect("the page's files are text")
    }

    /// The quoted strings that follow `marker`.
    fn quoted_after<'a>(text: &'a str, marker: &str, quote: char) -> Vec<&'a str> {
        text.split(marker).skip(1).filter_map(|rest| rest.split(quote).next()).collect()
    }

    #[test]
    fn every_file_the_page_names_is_served() {
        let page = text(find("/").expect("the page"));
        let named = [" src=\"", " href=\"/"].map(|marker| quoted_after(page, marker, '"')).concat();
        assert!(named.len() >= 4, "found only {named:?}");
        for name in named {
            let path = format!("/{}", name.trim_start_matches('/'));
            assert!(find(&path).is_some(), "index.html names {path}, which is not in FILES");
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
    fn the_page_has_nothing_its_policy_forbids() {
        let page = text(find("/").expect("the page"));
        for inline in ["<style", " style=", " onclick=", " onload=", " onerror=", "javascript:"] {
            assert!(!page.contains(inline), "index.html has {inline}");
        }
        assert_eq!(
            page.matches("<script").count(),
            page.matches("<script type=\"module\" src=").count()
        );
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
