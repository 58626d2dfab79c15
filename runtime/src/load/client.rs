//! A small HTTP/1.1 client: connections that are kept, and what the server says of itself.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::HOST,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::LoadError;
use crate::{
    endpoint::{ModelMetadata, ServerMetadata},
    http::percent::{decode, encode},
};

/// Largest reply that is read.
const MAX_REPLY_BYTES: usize = 64 << 20;

/// Largest metrics page that is read. That of 64 paths has some 300 KB.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// Time to connect, and for the server to describe itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a server is, and the model's name if the URL has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: String,
    pub(super) model: Option<String>,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, LoadError> {
        let wrong = |problem| LoadError::Url { url: url.to_owned(), problem };
        let with_scheme =
            if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = with_scheme.parse().map_err(|_| wrong("is not a URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("is not plain HTTP"));
        }
        let host =
            uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("has no host"))?;
        let model = match uri.path().trim_end_matches('/') {
            "" | "/v2" => None,
            path => {
                let name = path
                    .strip_prefix("/v2/models/")
                    .map(|rest| rest.strip_suffix("/infer").unwrap_or(rest));
                let name = name.filter(|name| !name.is_empty() && !name.contains('/'));
                let name = name.ok_or_else(|| wrong("has a path that names no model"))?;
                Some(decode(name).ok_or_else(|| wrong("has a wrong escape"))?.into_owned())
            }
        };
        Ok(Self { address: format!("{host}:{}", uri.port_u16().unwrap_or(8000)), model })
    }
}

/// A connection on which one request at a time is under way.
pub(super) type Connection = http1::SendRequest<Full<Bytes>>;

/// Connects. Must be called on a runtime; the connection ends when it is dropped.
pub(super) async fn connect(address: &str) -> std::io::Result<Connection> {
    let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    tokio::spawn(async move {
        // Whoever waits for a response on it is told of the error.
        let _ = connection.await;
    });
    Ok(sender)
}

/// The whole body of a response.
pub(super) async fn body_of(response: Response<Incoming>) -> Option<Bytes> {
    body_within(response, MAX_REPLY_BYTES).await
}

async fn body_within(response: Response<Incoming>, limit: usize) -> Option<Bytes> {
    let body = Limited::new(response.into_body(), limit).collect().await;
    body.ok().map(http_body_util::Collected::to_bytes)
}

/// The metrics page of a server.
///
/// Blocks for a few seconds at most.
///
/// # Errors
///
/// [`LoadError`] when there is no server, or its reply is late, too long or no text.
pub fn metrics_text(url: &str) -> Result<String, LoadError> {
    const PATH: &str = "/metrics";
    let target = Target::parse(url)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LoadError::Start)?;
    let page = runtime.block_on(get_bytes(&target.address, PATH, MAX_PAGE_BYTES))?;
    String::from_utf8(page.into()).map_err(|_| LoadError::Reply {
        path: PATH.to_owned(),
        problem: "with bytes that are no text".to_owned(),
    })
}

/// Whether the server at `url` says that it can answer queries.
///
/// Blocks for a few seconds at most.
///
/// # Errors
///
/// [`LoadError`] when there is no server, or its reply is late.
pub fn is_ready(url: &str) -> Result<bool, LoadError> {
    const PATH: &str = "/v2/health/ready";
    let target = Target::parse(url)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LoadError::Start)?;
    let (status, _) = runtime.block_on(ask(&target.address, PATH, MAX_REPLY_BYTES))?;
    Ok(status == StatusCode::OK)
}

/// What the server says of a model: of `model`, of the one that `url` names, or of its only one.
///
/// Blocks for a few seconds at most.
///
/// # Errors
///
/// [`LoadError`] when there is no such server or model, or several models and none is named.
pub fn describe(url: &str, model: Option<&str>) -> Result<ModelMetadata, LoadError> {
    let target = Target::parse(url)?;
    let named = model.or(target.model.as_deref());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LoadError::Start)?;
    runtime.block_on(async {
        let name = match named {
            Some(name) => name.to_owned(),
            None => {
                let server: ServerMetadata = get(&target.address, "/v2").await?;
                match <[String; 1]>::try_from(server.models) {
                    Ok([name]) => name,
                    Err(models) => return Err(LoadError::WhichModel { models }),
                }
            }
        };
        get(&target.address, &model_path(&name)).await
    })
}

/// The path of a model's URL.
pub(super) fn model_path(name: &str) -> String {
    format!("/v2/models/{}", encode(name))
}

async fn get<T: serde::de::DeserializeOwned>(address: &str, path: &str) -> Result<T, LoadError> {
    let body = get_bytes(address, path, MAX_REPLY_BYTES).await?;
    serde_json::from_slice(&body).map_err(|error| LoadError::Reply {
        path: path.to_owned(),
        problem: format!("with other JSON: {error}"),
    })
}

async fn get_bytes(address: &str, path: &str, limit: usize) -> Result<Bytes, LoadError> {
    let (status, body) = ask(address, path, limit).await?;
    if status != StatusCode::OK {
        let problem = format!("with status {status}");
        return Err(LoadError::Reply { path: path.to_owned(), problem });
    }
    Ok(body)
}

async fn ask(address: &str, path: &str, limit: usize) -> Result<(StatusCode, Bytes), LoadError> {
    let reply = |problem: String| LoadError::Reply { path: path.to_owned(), problem };
    let connect_error = |source| LoadError::Connect { address: address.to_owned(), source };
    let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(address))
        .await
        .map_err(|elapsed| connect_error(elapsed.into()))?
        .map_err(connect_error)?;
    let request = Request::get(path)
        .header(HOST, address)
        .body(Empty::<Bytes>::new())
        .map_err(|error| reply(format!("never, for it cannot be asked: {error}")))?;
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    let response = tokio::time::timeout(PATIENCE, exchange)
        .await
        .map_err(|_| reply("with silence".to_owned()))?
        .map_err(|error| reply(format!("with an error: {error}")))?;
    let status = response.status();
    let body = tokio::time::timeout(PATIENCE, body_within(response, limit)).await.ok().flatten();
    let body = body.ok_or_else(|| reply("incompletely".to_owned()))?;
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_server_and_perhaps_a_model() {
        for (url, address, model) in [
            ("http://127.0.0.1:8000", "127.0.0.1:8000", None),
            ("127.0.0.1:9", "127.0.0.1:9", None),
            ("http://host/", "host:8000", None),
            ("http://[::1]:7/v2", "[::1]:7", None),
            ("http://host:1/v2/models/ctr", "host:1", Some("ctr")),
            ("http://host:1/v2/models/a%20b/", "host:1", Some("a b")),
            ("http://host:1/v2/models/ctr/infer", "host:1", Some("ctr")),
        ] {
            let target = Target { address: address.into(), model: model.map(Into::into) };
            assert_eq!(Target::parse(url).unwrap(), target, "{url}");
        }
        for url in ["", "https://host", "http://", "http://host/v2/models/a/b", "http://host/x"] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
