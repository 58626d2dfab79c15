//! A service for tests of protocols: it computes something checkable, or misbehaves.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use mprec_datasets::{
    Coding, Layout, PrepareOptions, Preprocessor, Recipe,
    layout::{Column, DenseColumn, DenseKind, Fields, SparseColumn, SparseKind},
    prepare,
};
use mprec_representations::{Batch, BatchShape, OutOfVocabulary, Schema, SparseFeature};
use tokio::sync::oneshot;

use crate::service::{
    Answer, Load, Model, ModelWork, Outcome, PathWork, Refusal, ScoreRequest, Service, Spent,
};

pub(crate) const SLA: Duration = Duration::from_millis(250);

/// What the fake does with queries.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    Score,
    /// Refuses in `submit`.
    Refuse(Refusal),
    /// Takes the query, and refuses it as its outcome.
    RefuseLater(Refusal),
    /// Takes the query and keeps its sender in [`Fake::held`].
    Hold,
    /// Takes the query and loses it.
    Lose,
    /// Answers with these scores.
    Say(Vec<f32>),
}

/// Scores with [`score`], or misbehaves.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) model: Arc<Model>,
    pub(crate) ready: AtomicBool,
    behaviour: Mutex<Behaviour>,
    seen: Mutex<Vec<ScoreRequest>>,
    pub(crate) held: Mutex<Vec<(oneshot::Sender<Outcome>, Outcome)>>,
}

impl Fake {
    pub(crate) fn new(rule: OutOfVocabulary) -> Self {
        let sparse = [10, 20, 30]
            .iter()
            .enumerate()
            .map(|(at, &cardinality)| SparseFeature { name: format!("s{at}"), cardinality });
        let schema = Schema::new(vec!["a".into(), "b".into()], sparse.collect(), rule).unwrap();
        Self {
            model: Arc::new(Model {
                name: "ctr".into(),
                version: "7".into(),
                shape: BatchShape::new(&schema),
                schema,
                max_samples: 1000,
                sla: SLA,
                paths: BTreeMap::from([("table@cpu".into(), 0.75), ("dhe@cpu".into(), 0.8)]),
                preprocessor: None,
            }),
            ready: AtomicBool::new(true),
            behaviour: Mutex::new(Behaviour::Score),
            seen: Mutex::new(Vec::new()),
            held: Mutex::new(Vec::new()),
        }
    }

    /// One that takes raw values too: rows of an integer, a number, a token of 8 digits and two texts, of which those of
    /// [`RAW`] were prepared.
    pub(crate) fn raw() -> Self {
        let at = Column::At;
        let dense = [("a", at(0), DenseKind::LogInteger), ("b", at(1), DenseKind::Number)];
        let sparse = [
            ("s0", at(2), SparseKind::Hex { modulo: None }),
            ("s1", at(3), SparseKind::Text),
            ("s2", at(4), SparseKind::Text),
        ];
        let layout = Layout::new(Fields {
            name: "five".into(),
            delimiter: ',',
            header: false,
            columns: Some(5),
            label: None,
            dense: dense
                .map(|(name, column, kind)| DenseColumn { name: name.into(), column, kind })
                .into(),
            sparse: sparse
                .map(|(name, column, kind)| SparseColumn { name: name.into(), column, kind })
                .into(),
            joins: Vec::new(),
        });
        let folder = tempfile::tempdir().unwrap();
        let (rows, out) = (folder.path().join("rows"), folder.path().join("out"));
        std::fs::write(&rows, raw_lines(&RAW)).unwrap();
        let mut options = PrepareOptions::new(vec![rows], out.clone(), layout.unwrap());
        let Recipe::New { coding, .. } = &mut options.recipe else { unreachable!() };
        *coding = Coding::Vocabulary { min_count: 1, max_tokens: None };
        options.train_fraction = 1.0;
        prepare(&options, |_| ()).unwrap();
        // The vocabulary stays mapped when its folder is gone.
        let preprocessor = Preprocessor::open(&out).unwrap();
        let mut fake = Self::new(OutOfVocabulary::Zero);
        let model = Arc::get_mut(&mut fake.model).expect("nobody else has it");
        model.shape = BatchShape::new(preprocessor.schema());
        model.schema = preprocessor.schema().clone();
        model.preprocessor = Some(Arc::new(preprocessor));
        fake
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// Answers what [`Behaviour::Hold`] has kept.
    pub(crate) fn release(&self) {
        for (sender, outcome) in self.held.lock().unwrap().drain(..) {
            // Whoever asked may have left.
            let _ = sender.send(outcome);
        }
    }

    /// The number of queries that came.
    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn last(&self) -> ScoreRequest {
        self.seen.lock().unwrap().pop().expect("a query came")
    }
}

impl Service for Fake {
    fn models(&self) -> Vec<Arc<Model>> {
        vec![Arc::clone(&self.model)]
    }

    fn model(&self, name: &str) -> Option<Arc<Model>> {
        (name == self.model.name).then(|| Arc::clone(&self.model))
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }

    fn load(&self, _model: &Model) -> Option<Load> {
        Some(Load {
            utilization: 0.25,
            queued_queries: 1,
            queued_samples: 20,
            busy_workers: 1,
            workers: 4,
            paths_up: 2,
        })
    }

    fn work(&self, _model: &Model) -> ModelWork {
        let answered = Spent { count: self.count() as u64, time: Duration::from_millis(3) };
        let path = PathWork { path: "table@cpu".into(), answered, ..PathWork::default() };
        ModelWork { refused: Spent { count: 4, time: Duration::ZERO }, paths: vec![path] }
    }

    fn submit(
        &self,
        _model: &Arc<Model>,
        request: ScoreRequest,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        let answer = answer(score(&request.batch.expanded()));
        self.seen.lock().unwrap().push(request);
        let (sender, receiver) = oneshot::channel();
        match self.behaviour.lock().unwrap().clone() {
            Behaviour::Score => drop(sender.send(Ok(answer))),
            Behaviour::Refuse(refusal) => return Err(refusal),
            Behaviour::RefuseLater(refusal) => drop(sender.send(Err(refusal))),
            Behaviour::Hold => self.held.lock().unwrap().push((sender, Ok(answer))),
            Behaviour::Lose => {}
            Behaviour::Say(scores) => drop(sender.send(Ok(self::answer(scores)))),
        }
        Ok(receiver)
    }
}

pub(crate) fn answer(scores: Vec<f32>) -> Answer {
    Answer {
        batch_samples: scores.len(),
        scores,
        path: "table@cpu".into(),
        variant: "table".into(),
        version: "7".into(),
        quality: 0.75,
        downgraded: true,
        predicted: Duration::from_micros(400),
        queue: Duration::from_micros(12),
        compute: Duration::from_micros(345),
    }
}

/// A number in `(0, 1]` that every dense value, id and weight of a sample changes.
pub(crate) fn score(batch: &Batch) -> Vec<f32> {
    let sample = |sample: usize| {
        let row = &batch.dense()[sample * batch.dense_width()..][..batch.dense_width()];
        let mut sum: f32 = row.iter().enumerate().map(|(at, value)| value * (at + 1) as f32).sum();
        for feature in 0..batch.features() {
            let bags = batch.bags(feature);
            for at in bags.range(sample) {
                let weight = bags.weights().map_or(1.0, |weights| weights[at]);
                sum += weight * (bags.ids()[at] as f32 + 0.5) * (feature * 100 + 1) as f32;
            }
        }
        1.0 / (1.0 + sum.abs() / 100.0)
    };
    (0..batch.samples()).map(sample).collect()
}

/// Raw rows for [`Fake::raw`]: with what is missing, and with text that JSON has to escape.
pub(crate) const RAW: [[&str; 5]; 4] = [
    ["3", "0.5", "0000000a", "shoe", "red"],
    ["-2", "", "0000000b", "", "blue"],
    ["", "-1.25", "", "sch\u{f6}n", "red"],
    ["700", "3", "ffffffff", "a\\b\u{1}", ""],
];

/// Rows as a file has them.
pub(crate) fn raw_lines(rows: &[[&str; 5]]) -> String {
    rows.iter().map(|row| row.join(",") + "\n").collect()
}

/// Two samples for [`Fake`].
pub(crate) fn dense() -> Vec<f32> {
    vec![0.1, -2.5, 3.25, 1e-3]
}

pub(crate) fn sparse() -> Vec<i64> {
    vec![1, 2, 3, 9, 19, 29]
}

/// What they score to.
pub(crate) fn expected() -> Vec<f32> {
    let shape = &Fake::new(OutOfVocabulary::Zero).model.shape;
    score(&shape.from_rows(dense(), &sparse()).unwrap())
}
