//! The page at the root: says what this is. The dashboard takes its place when there is one. Nothing stands in the page that
//! runs or styles: the content security policy allows only what is loaded from here.

use axum::http::header;
use axum::response::{Html, IntoResponse};

use super::VERSION;

/// What a browser sees that was pointed at the hub.
pub async fn front() -> Html<String> {
    Html(format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Outrigger hub</title>
<link rel="stylesheet" href="/page.css">
</head>
<body>
<h1>Outrigger hub {VERSION}</h1>
<p>This is the API of a fleet. Use it with the command line: <code>outrigger login</code>, then <code>outrigger devices</code>,
<code>outrigger ps</code>, <code>outrigger deploy</code>.</p>
<ul>
<li><a href="/v1/openapi.json">all routes, and the role that each needs, as an OpenAPI document</a></li>
<li><a href="/readyz">whether the hub is ready</a></li>
</ul>
</body>
</html>
"#
    ))
}

/// How it looks.
pub async fn style() -> impl IntoResponse {
    let text = "body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }\n";
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], text)
}
