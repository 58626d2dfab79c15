//! The repository's calls, where there are any.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tonic::Code;

use super::{Server, expect_error};
use crate::{
    endpoint::{Change, Changed, Control, ControlError, ExpectedConfig, IndexEntry, ModelState},
    grpc::protocol::inference::{
        ModelRepositoryParameter, RepositoryIndexRequest, RepositoryModelLoadRequest,
        RepositoryModelUnloadRequest, ServerMetadataRequest,
        model_repository_parameter::ParameterChoice,
    },
};

/// Knows of `ctr` and of `broken`, and writes down what was done.
#[derive(Debug, Default)]
struct Repository(Mutex<Vec<String>>);

impl Repository {
    fn done(&self, verb: &str, name: &str, version: Option<&str>) -> Result<Change, ControlError> {
        let name = name.to_owned();
        let (sender, change) = oneshot::channel();
        match name.as_str() {
            "ctr" => {
                self.0.lock().unwrap().push(format!("{verb} {name}"));
                let version = version.map(str::to_owned);
                sender.send(Ok(Changed { name, version })).unwrap();
            }
            "broken" => {
                let reason = "its manifest does not match".into();
                sender.send(Err(ControlError::Load { name, reason })).unwrap();
            }
            // The server stops before it comes to it.
            "late" => drop(sender),
            _ => return Err(ControlError::Unknown { name }),
        }
        Ok(change)
    }
}

impl Control for Repository {
    fn index(&self) -> Vec<IndexEntry> {
        let line = |name: &str, version: &str, state, reason: &str| IndexEntry {
            name: name.into(),
            version: version.into(),
            state,
            reason: reason.into(),
        };
        vec![
            line("broken", "", ModelState::Unavailable, "its manifest does not match"),
            line("ctr", "7", ModelState::Ready, ""),
        ]
    }

    fn load(&self, name: &str, _: Option<ExpectedConfig>) -> Result<Change, ControlError> {
        self.done("load", name, Some("8"))
    }

    fn unload(&self, name: &str) -> Result<Change, ControlError> {
        self.done("unload", name, None)
    }

    fn rollback(&self, name: &str) -> Result<Change, ControlError> {
        self.done("rollback", name, Some("7"))
    }
}

fn load(name: &str, parameters: &[(&str, ParameterChoice)]) -> RepositoryModelLoadRequest {
    let entry = |(name, value): &(&str, ParameterChoice)| {
        ((*name).to_owned(), ModelRepositoryParameter { parameter_choice: Some(value.clone()) })
    };
    RepositoryModelLoadRequest {
        repository_name: String::new(),
        model_name: name.into(),
        parameters: parameters.iter().map(entry).collect(),
    }
}

#[tokio::test]
async fn models_are_listed_loaded_and_unloaded() {
    let repository = Arc::new(Repository::default());
    let server = Server::with_control(Arc::clone(&repository) as _).await;
    let mut client = server.client().await;

    let described = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert!(described.extensions.contains(&"model_repository".to_owned()), "{described:?}");

    let all = RepositoryIndexRequest::default();
    let index = client.repository_index(all.clone()).await.unwrap().into_inner().models;
    let lines: Vec<_> =
        index.iter().map(|line| (&*line.name, &*line.version, &*line.state)).collect();
    assert_eq!(lines, [("broken", "", "UNAVAILABLE"), ("ctr", "7", "READY")]);
    assert_eq!(index[0].reason, "its manifest does not match");
    let ready = RepositoryIndexRequest { ready: true, ..all };
    let index = client.repository_index(ready).await.unwrap().into_inner().models;
    assert_eq!(index.len(), 1);

    let config = ParameterChoice::StringParam("{\"name\": \"ctr\"}".into());
    client.repository_model_load(load("ctr", &[("config", config)])).await.unwrap();
    let unload = RepositoryModelUnloadRequest {
        model_name: "ctr".into(),
        parameters: load("ctr", &[("unload_dependents", ParameterChoice::BoolParam(true))])
            .parameters,
        ..Default::default()
    };
    client.repository_model_unload(unload).await.unwrap();
    assert_eq!(*repository.0.lock().unwrap(), ["load ctr", "unload ctr"]);
}

#[tokio::test]
async fn what_cannot_be_done_changes_nothing_and_says_why() {
    let repository = Arc::new(Repository::default());
    let server = Server::with_control(Arc::clone(&repository) as _).await;
    let mut client = server.client().await;
    let file = ParameterChoice::BytesParam(vec![0; 8].into());
    for (request, status, code, says) in [
        (load("other", &[]), Code::NotFound, "unknown_model", "`other`"),
        (load("broken", &[]), Code::InvalidArgument, "load_failed", "does not match"),
        (load("late", &[]), Code::Unavailable, "unavailable", "stopping"),
        (load("ctr", &[("file:1/a", file)]), Code::InvalidArgument, "bad_parameter", "folder"),
        (
            load("ctr", &[("config", ParameterChoice::Int64Param(1))]),
            Code::InvalidArgument,
            "bad_parameter",
            "JSON",
        ),
        (
            RepositoryModelLoadRequest { repository_name: "b".into(), ..load("ctr", &[]) },
            Code::InvalidArgument,
            "bad_parameter",
            "there is one",
        ),
    ] {
        let message = expect_error(client.repository_model_load(request).await, status, code);
        assert!(message.contains(says), "{message}");
    }
    assert!(repository.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn elsewhere_the_calls_do_not_exist() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (status, code) = (Code::Unimplemented, "unknown_route");
    expect_error(client.repository_index(RepositoryIndexRequest::default()).await, status, code);
    expect_error(client.repository_model_load(load("ctr", &[])).await, status, code);
    let unload = RepositoryModelUnloadRequest { model_name: "ctr".into(), ..Default::default() };
    expect_error(client.repository_model_unload(unload).await, status, code);
}
