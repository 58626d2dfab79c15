//! `mprec serve --check`.

use mprec_runtime::{
    config::{Budgets, ConfigFile},
    repository::Recipe,
};

use crate::cli::{Failure, InputError as _, Output, Run};

/// Tries everything but measuring, and says all that is wrong, or what is in force.
pub(super) fn check(file: ConfigFile, output: &Output) -> Run {
    let problems = file.problems();
    if !problems.is_empty() {
        let lines: Vec<String> =
            problems.into_iter().map(|error| format!("{:#}", anyhow::Error::from(error))).collect();
        return Err(Failure::input(anyhow::anyhow!(lines.join("\n"))));
    }
    let config = file.check().or_bad_input()?;
    let (mut paths, mut problems) = (Vec::new(), Vec::new());
    let mut resident = Budgets::new();
    for recipe in Recipe::all_of(&config) {
        match recipe.try_out(config.budgets(), &resident) {
            Ok(tried) => {
                paths.extend(tried.paths);
                for (device, bytes) in tried.bytes {
                    resident.entry(device).or_default().0 += bytes.0;
                }
            }
            Err(error) => {
                let name = recipe.name.as_ref().map(|name| format!("model `{name}`: "));
                let error = anyhow::Error::from(error);
                problems.push(format!("{}{error:#}", name.unwrap_or_default()));
            }
        }
    }
    let security = config.security().problems();
    problems.extend(security.into_iter().map(|error| format!("{:#}", anyhow::Error::from(error))));
    if !problems.is_empty() {
        return Err(Failure::input(anyhow::anyhow!(problems.join("\n"))));
    }
    let effective = config.effective();
    let text = toml::to_string(&effective)?;
    let result = serde_json::json!({"valid": true, "paths": paths, "effective": effective});
    output.result(&result, || {
        let places: Vec<String> = config.server().listen.iter().map(ToString::to_string).collect();
        format!("{text}\n# valid: {} on {}", paths.join(", "), places.join(", "))
    })
}
