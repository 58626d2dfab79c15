//! Where models are managed over HTTP.

use std::sync::Mutex;

use super::*;
use crate::endpoint::{Change, Changed, Control, ControlError, ExpectedConfig, IndexEntry};

/// Writes down what was done.
#[derive(Debug, Default)]
struct Repository(Mutex<Vec<String>>);

impl Repository {
    fn done(&self, verb: &str, name: &str) -> Result<Change, ControlError> {
        self.0.lock().unwrap().push(format!("{verb} {name}"));
        let (sender, change) = oneshot::channel();
        sender.send(Ok(Changed { name: name.into(), version: None })).unwrap();
        Ok(change)
    }
}

impl Control for Repository {
    fn index(&self) -> Vec<IndexEntry> {
        Vec::new()
    }

    fn load(&self, name: &str, _: Option<ExpectedConfig>) -> Result<Change, ControlError> {
        self.done("load", name)
    }

    fn unload(&self, name: &str) -> Result<Change, ControlError> {
        self.done("unload", name)
    }

    fn rollback(&self, name: &str) -> Result<Change, ControlError> {
        self.done("rollback", name)
    }
}

#[tokio::test]
async fn web_pages_change_no_models_and_programs_do() {
    let repository = Arc::new(Repository::default());
    let control: Arc<dyn Control> = Arc::clone(&repository) as _;
    let fake = Fake::new(OutOfVocabulary::Zero);
    let with = |endpoint: Endpoint<Fake>| endpoint.with_control(control);
    let server = Server::of(fake, HttpConfig::default(), Limits::default(), with).await;
    let unload = "/v2/repository/models/ctr/unload";
    for headers in [
        "origin: https://example.org\r\ncontent-type: text/plain\r\n",
        "origin: null\r\n",
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
        "sec-fetch-site: none\r\nsec-fetch-site: cross-site\r\n",
    ] {
        for verb in ["POST", "OPTIONS"] {
            let reply = server.ask(verb, unload, headers, b"").await;
            reply.expect_error(403, "cross_site");
            assert_eq!(reply.header("access-control-allow-origin"), None);
        }
        let index = server.ask("GET", "/v2/repository/index", headers, b"").await;
        index.expect_error(403, "cross_site");
        // Nobody is harmed by what changes nothing.
        assert_eq!(server.ask("GET", "/v2/health/ready", headers, b"").await.status, 200);
    }
    assert!(repository.0.lock().unwrap().is_empty());
    for headers in ["", "sec-fetch-site: none\r\n", "sec-fetch-site: same-origin\r\n"] {
        assert_eq!(server.ask("POST", unload, headers, b"").await.status, 200, "{headers}");
        assert_eq!(server.ask("GET", "/v2/repository/index", headers, b"").await.status, 200);
    }
    assert_eq!(*repository.0.lock().unwrap(), ["unload ctr"; 3]);
}
