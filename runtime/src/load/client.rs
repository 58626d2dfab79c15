//! A small HTTP/1.1 client: connections that are kept, and what the server says of itself.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{AUTHORIZATION, HOST, HeaderValue},
    http::request::Builder,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{LoadError, access::Access};
use crate::{
    endpoint::{ModelMetadata, ServerMetadata},
    http::percent::{decode, encode},
    security::Io,
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
    is_secure: bool,
    pub(super) model: Option<String>,
}

/// A server, and all that it takes to ask it.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) address: String,
    host: HeaderValue,
    access: Access,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, LoadError> {
        let wrong = |problem| LoadError::Url { url: url.to_owned(), problem };
        let with_scheme =
            if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = with_scheme.parse().map_err(|_| wrong("is not a URL"))?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("is not HTTP")),
        };
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
        let address = format!("{host}:{}", uri.port_u16().unwrap_or(8000));
        Ok(Self { address, is_secure, model })
    }
}

impl Link {
    /// The server of a URL, and the model's name if the URL has one.
    pub(super) fn to(url: &str, access: &Access) -> Result<(Self, Option<String>), LoadError> {
        let wrong = |problem| LoadError::Url { url: url.to_owned(), problem };
        let Target { address, is_secure, model } = Target::parse(url)?;
        let mut access = access.clone();
        if !is_secure {
            access.tls = None;
        } else if access.tls.is_none() {
            return Err(wrong("is HTTPS, for which certificates to trust are needed (`--ca`)"));
        }
        let host = address.parse().map_err(|_| wrong("has no host"))?;
        Ok((Self { address, host, access }, model))
    }

    /// What requests begin with.
    pub(super) fn request(
        &self,
        method: Method,
        path: impl TryInto<Uri, Error: Into<hyper::http::Error>>,
    ) -> Builder {
        let request = Request::builder().method(method).uri(path).header(HOST, &self.host);
        match &self.access.authorization {
            Some(key) => request.header(AUTHORIZATION, key),
            None => request,
        }
    }

    /// Connects. Must be called on a runtime; the connection ends when it is dropped.
    pub(super) async fn connect(&self) -> std::io::Result<Connection> {
        tokio::time::timeout(PATIENCE, async {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            match &self.access.tls {
                None => speak(stream).await,
                Some(tls) => {
                    let host = self.address.rsplit_once(':').map_or("", |(host, _)| host);
                    speak(tls.connect(host, stream).await?).await
                }
            }
        })
        .await?
    }

    /// Connects, or says that it cannot be done.
    pub(super) async fn connection(&self) -> Result<Connection, LoadError> {
        let address = || self.address.clone();
        let connected = self.connect().await;
        connected.map_err(|source| match source.kind() {
            // So the TLS library says that it was told something else than it expected.
            std::io::ErrorKind::InvalidData => LoadError::Untrusted { address: address(), source },
            _ => LoadError::Connect { address: address(), source },
        })
    }
}

async fn speak(stream: impl Io + 'static) -> std::io::Result<Connection> {
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    tokio::spawn(async move {
        // Whoever waits for a response on it is told of the error.
        let _ = connection.await;
    });
    Ok(sender)
}

/// A connection on which one request at a time is under way.
pub(super) type Connection = http1::SendRequest<Full<Bytes>>;

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
pub fn metrics_text(url: &str, access: &Access) -> Result<String, LoadError> {
    const PATH: &str = "/metrics";
    let (link, _) = Link::to(url, access)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LoadError::Start)?;
    let page = runtime.block_on(get_bytes(&link, PATH, MAX_PAGE_BYTES))?;
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
pub fn is_ready(url: &str, access: &Access) -> Result<bool, LoadError> {
    const PATH: &str = "/v2/health/ready";
    let (link, _) = Link::to(url, access)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LoadError::Start)?;
    let (status, _) = runtime.block_on(ask(&link, PATH, MAX_REPLY_BYTES))?;
    Ok(status == StatusCode::OK)
}

/// What the server says of a model: of `model`, of the one that `url` names, or of its only one.
///
/// Blocks for a few seconds at most.
///
/// # Errors
///
/// [`LoadError`] when there is no such server or model, or several models and none is named.
pub fn describe(
    url: &str,
    access: &Access,
    model: Option<&str>,
) -> Result<ModelMetadata, LoadError> {
    let (link, of_url) = Link::to(url, access)?;
    let named = model.or(of_url.as_deref());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LoadError::Start)?;
    runtime.block_on(async {
        let name = match named {
            Some(name) => name.to_owned(),
            None => {
                let server: ServerMetadata = get(&link, "/v2").await?;
                match <[String; 1]>::try_from(server.models) {
                    Ok([name]) => name,
                    Err(models) => return Err(LoadError::WhichModel { models }),
                }
            }
        };
        get(&link, &model_path(&name)).await
    })
}

/// The path of a model's URL.
pub(super) fn model_path(name: &str) -> String {
    format!("/v2/models/{}", encode(name))
}

async fn get<T: serde::de::DeserializeOwned>(link: &Link, path: &str) -> Result<T, LoadError> {
    let body = get_bytes(link, path, MAX_REPLY_BYTES).await?;
    serde_json::from_slice(&body).map_err(|error| LoadError::Reply {
        path: path.to_owned(),
        problem: format!("with other JSON: {error}"),
    })
}

async fn get_bytes(link: &Link, path: &str, limit: usize) -> Result<Bytes, LoadError> {
    let (status, body) = ask(link, path, limit).await?;
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        return Err(LoadError::Key { path: path.to_owned(), status: status.as_u16() });
    }
    if status != StatusCode::OK {
        let problem = format!("with status {status}");
        return Err(LoadError::Reply { path: path.to_owned(), problem });
    }
    Ok(body)
}

async fn ask(link: &Link, path: &str, limit: usize) -> Result<(StatusCode, Bytes), LoadError> {
    let reply = |problem: String| LoadError::Reply { path: path.to_owned(), problem };
    let request = link
        .request(Method::GET, path)
        .body(Full::default())
        .map_err(|error| reply(format!("never, for it cannot be asked: {error}")))?;
    let mut connection = link.connection().await?;
    let response = tokio::time::timeout(PATIENCE, connection.send_request(request))
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
            let (address, model) = (address.into(), model.map(Into::into));
            let mut target = Target { address, is_secure: false, model };
            assert_eq!(Target::parse(url).unwrap(), target, "{url}");
            target.is_secure = true;
            if let Some(rest) = url.strip_prefix("http:") {
                assert_eq!(Target::parse(&format!("https:{rest}")).unwrap(), target, "{url}");
            }
        }
        let untrusted = Link::to("https://host", &Access::default()).unwrap_err();
        assert!(untrusted.to_string().contains("--ca"), "{untrusted}");
        for url in ["", "ftp://host", "http://", "http://host/v2/models/a/b", "http://host/x"] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
