//! The OpenAPI document and the Swagger UI page, embedded.
//!
//! `swagger-ui/` is swagger-ui-dist 5.35.0 as published on npm, without its source maps and the
//! standalone preset; to update, copy the same five files from a newer release.

/// A file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Path below the handler prefix: `""` is the page at `<prefix>/`. The page's links are
    /// relative, so a request for `<prefix>` must be redirected to `<prefix>/`.
    pub path: &'static str,
    pub content_type: &'static str,
    pub body: &'static [u8],
}

/// OpenAPI 3.1 description of the HTTP API, with `/api` as its server.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Swagger UI styles its elements from script and draws with `data:` images; the rest is `'self'`.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Every file, the page itself first.
pub const FILES: &[Asset] = &[
    file("", "text/html; charset=utf-8", include_bytes!("index.html")),
    file("openapi.json", "application/json", OPENAPI.as_bytes()),
    file("page.css", CSS, include_bytes!("page.css")),
    file("page.js", JS, include_bytes!("page.js")),
    file("swagger-ui/swagger-ui.css", CSS, include_bytes!("swagger-ui/swagger-ui.css")),
    file("swagger-ui/swagger-ui-bundle.js", JS, include_bytes!("swagger-ui/swagger-ui-bundle.js")),
    file("swagger-ui/LICENSE", TEXT, include_bytes!("swagger-ui/LICENSE")),
    file("swagger-ui/NOTICE", TEXT, include_bytes!("swagger-ui/NOTICE")),
    file(
        "swagger-ui/swagger-ui-bundle.js.LICENSE.txt",
        TEXT,
        include_bytes!("swagger-ui/swagger-ui-bundle.js.LICENSE.txt"),
    ),
];

/// The file at a path below the handler prefix, given without a leading slash.
pub fn find(path: &str) -> Option<&'static Asset> {
    FILES.iter().find(|asset| asset.path == path)
}

const fn file(path: &'static str, content_type: &'static str, body: &'static [u8]) -> Asset {
    Asset { path, content_type, body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn document() -> Value {
        serde_json::from_str(OPENAPI).expect("openapi.json is JSON")
    }

    /// Every `$ref` below `value`.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_in_the_document_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50, "found only {} references", found.len());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("references stay in the document");
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }

    #[test]
    fn every_stream_method_is_described() {
        let document = document();
        let mut described: Vec<_> =
            document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
        described.sort_unstable();
        let methods = [
            "/batch",
            "/broadcast",
            "/channels",
            "/disconnect",
            "/history",
            "/history_remove",
            "/info",
            "/presence",
            "/presence_stats",
            "/publish",
            "/refresh",
            "/rpc",
            "/subscribe",
            "/unsubscribe",
        ];
        assert_eq!(described, methods);
    }

    #[test]
    fn every_file_the_page_names_is_served() {
        let page = include_str!("index.html");
        let named: Vec<_> = page
            .split(" src=\"")
            .skip(1)
            .chain(page.split("stylesheet\" href=\"").skip(1))
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert_eq!(named.len(), 4, "{named:?}");
        for name in named {
            assert!(find(name).is_some(), "index.html names {name}, which is not in FILES");
        }
    }
}
