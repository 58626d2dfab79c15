//! What a server's model repository is asked, and its answer.

use std::time::Duration;

use http_body_util::Full;
use hyper::{Method, StatusCode, body::Bytes, header::CONTENT_TYPE};
use serde::de::DeserializeOwned;

use super::{
    LoadError,
    access::Access,
    client::{Link, body_of},
};
use crate::{
    endpoint::{Changed, IndexEntry},
    http::percent::encode,
};

/// How long a change is waited for: a model may be gigabytes, and measured.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// A change of what is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelChange {
    /// The newest version takes over.
    Load,
    /// Every version goes.
    Unload,
    /// The version before takes over.
    Rollback,
}

/// Every model and version of the server whose models are managed at `url`.
///
/// # Errors
///
/// [`LoadError`] when there is no server, or it manages no models.
pub fn model_index(url: &str, access: &Access) -> Result<Vec<IndexEntry>, LoadError> {
    post(url, access, "/v2/repository/index")
}

/// Has the server change what is served of a model, and waits until it has. Blocks.
///
/// # Errors
///
/// [`LoadError`] when there is no server, or it says why it cannot.
pub fn change_model(
    url: &str,
    access: &Access,
    name: &str,
    change: ModelChange,
) -> Result<Changed, LoadError> {
    let verb = match change {
        ModelChange::Load => "load",
        ModelChange::Unload => "unload",
        ModelChange::Rollback => "rollback",
    };
    post(url, access, &format!("/v2/repository/models/{}/{verb}", encode(name)))
}

fn post<T: DeserializeOwned>(url: &str, access: &Access, path: &str) -> Result<T, LoadError> {
    let (link, _) = Link::to(url, access)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LoadError::Start)?;
    let fail = |problem: String| LoadError::Reply { path: path.to_owned(), problem };
    let request = link
        .request(Method::POST, path)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from_static(b"{}")))
        .map_err(|error| fail(format!("never, for it cannot be asked: {error}")))?;
    let (status, body) = runtime.block_on(async {
        let mut connection = link.connection().await?;
        let answer = tokio::time::timeout(PATIENCE, connection.send_request(request));
        let response = answer
            .await
            .map_err(|_| fail("with silence".to_owned()))?
            .map_err(|error| fail(format!("with an error: {error}")))?;
        let status = response.status();
        let body = body_of(response).await.ok_or_else(|| fail("incompletely".to_owned()))?;
        Ok::<_, LoadError>((status, body))
    })?;
    if status != StatusCode::OK {
        #[derive(serde::Deserialize)]
        struct Refused {
            error: String,
        }
        let said = serde_json::from_slice::<Refused>(&body).map(|refused| refused.error);
        let said = said.map_or_else(|_| String::new(), |said| format!(": {said}"));
        return Err(fail(format!("with status {status}{said}")));
    }
    serde_json::from_slice(&body).map_err(|error| fail(format!("with other JSON: {error}")))
}
