const PAGE: Asset = Asset {
    name: "index.html",
    kind: "text/html; charset=utf-8",
    etag: "\"b84da63071a1\"",
    bytes: include_bytes!("index.html"),
};
const ASSETS: &[Asset] = &[
    Asset {
        name: "flame-9be0d6125b8c.svg",
        kind: "image/svg+xml",
        etag: "\"9be0d6125b8c\"",
        bytes: include_bytes!("flame-9be0d6125b8c.svg"),
    },
    Asset {
        name: "literata-9adbeac5b167.woff2",
        kind: "font/woff2",
        etag: "\"9adbeac5b167\"",
        bytes: include_bytes!("literata-9adbeac5b167.woff2"),
    },
    Asset {
        name: "inter-3100e775e861.woff2",
        kind: "font/woff2",
        etag: "\"3100e775e861\"",
        bytes: include_bytes!("inter-3100e775e861.woff2"),
    },
    Asset {
        name: "story-7b3c5738e237.js",
        kind: "text/javascript; charset=utf-8",
        etag: "\"7b3c5738e237\"",
        bytes: include_bytes!("story-7b3c5738e237.js"),
    },
    Asset {
        name: "theme-10d8bdef44df.js",
        kind: "text/javascript; charset=utf-8",
        etag: "\"10d8bdef44df\"",
        bytes: include_bytes!("theme-10d8bdef44df.js"),
    },
    Asset {
        name: "story-b5801ef14758.css",
        kind: "text/css; charset=utf-8",
        etag: "\"b5801ef14758\"",
        bytes: include_bytes!("story-b5801ef14758.css"),
    },
];
