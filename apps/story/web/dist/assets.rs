const PAGE: Asset = Asset { name: "index.html", kind: "text/html; charset=utf-8", etag: "\"0\"", bytes: b"<!doctype html>" };
const ASSETS: &[Asset] = &[];
