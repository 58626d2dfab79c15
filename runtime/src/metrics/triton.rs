//! Triton's names for what is counted by version of a model, for dashboards that were made for it.
//!
//! | Name | What is counted |
//! |---|---|
//! | `nv_inference_request_success`, `nv_inference_request_failure` | queries; `reason` as Triton has it, where refusals of every kind are `REJECTED` |
//! | `nv_inference_count`, `nv_inference_exec_count` | samples and batches run: the one over the other is the mean batch |
//! | `nv_inference_pending_request_count` | queries that wait |
//! | `nv_inference_*_duration_us` | of answered queries, from arrival: parsing (`compute_input`), waiting (`queue`), the batch (`compute_infer`), and waking, rendering (`compute_output`) |
//! | `nv_cpu_*` | the machine |
//!
//! The names end as Triton's do, so that the rules of the other names do not hold for them.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{
    instrument::Counter, machine::Reading, model::ModelMetrics, server::Metrics, text::Page,
};

impl Metrics {
    pub(super) fn render_triton(&self, page: &mut Page, machine: &Reading) {
        type Part = fn(&ModelMetrics) -> &Counter;
        let models = self.models.each();
        let counters: [(&str, &str, Part); 6] = [
            ("nv_inference_request_success", "Queries answered.", |model| &model.success),
            (
                "nv_inference_request_duration_us",
                "Time of answered queries, from arrival to reply.",
                |model| &model.request,
            ),
            (
                "nv_inference_queue_duration_us",
                "Of that, waiting for the start of the batch.",
                |model| &model.queue,
            ),
            ("nv_inference_compute_input_duration_us", "Of that, parsing.", |model| &model.input),
            ("nv_inference_compute_infer_duration_us", "Of that, in the batch.", |model| {
                &model.infer
            }),
            ("nv_inference_compute_output_duration_us", "Of that, after the batch.", |model| {
                &model.output
            }),
        ];
        for (name, help, part) in counters {
            page.start(name, "counter", help);
            for model in &*models {
                page.value(name, &labels(model), part(model).get());
            }
        }
        let name = "nv_inference_request_failure";
        page.start(name, "counter", "Queries without an answer, by reason.");
        for model in &*models {
            for (reason, counter) in model.failure.each() {
                let [first, second] = labels(model);
                page.value(name, &[first, second, ("reason", reason)], counter.get());
            }
        }
        let observed: Vec<&Arc<ModelMetrics>> =
            models.iter().filter(|model| model.is_observed.load(Relaxed)).collect();
        let counters: [(&str, &str, Part); 2] = [
            ("nv_inference_count", "Samples in the batches run.", |model| &model.inferences),
            ("nv_inference_exec_count", "Batches run.", |model| &model.executions),
        ];
        for (name, help, part) in counters {
            page.start(name, "counter", help);
            for model in &observed {
                page.value(name, &labels(model), part(model).get());
            }
        }
        let name = "nv_inference_pending_request_count";
        page.start(name, "gauge", "Queries that wait for their batch.");
        for model in &observed {
            page.value(name, &labels(model), model.pending.get());
        }
        if let Some(share) = machine.cpu_utilization {
            let help = "Share of the machine's processor time in use, 0 to 1.";
            page.single("nv_cpu_utilization", "gauge", help, share);
        }
        let memory = [
            ("nv_cpu_memory_total_bytes", "Memory of the machine.", machine.memory_total),
            ("nv_cpu_memory_used_bytes", "Memory of the machine in use.", machine.memory_used),
        ];
        for (name, help, bytes) in memory {
            if let Some(bytes) = bytes {
                page.single(name, "gauge", help, bytes);
            }
        }
    }
}

fn labels(model: &ModelMetrics) -> [(&str, &str); 2] {
    [("model", &model.name), ("version", &model.version)]
}
