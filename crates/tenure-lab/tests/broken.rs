//! Every deliberately broken variant is caught by the trial that is named for it.

use std::process::ExitCode;

use tenure_lab::broken;
use tenure_lab::harness::Harness;

fn main() -> ExitCode {
    if let Some(status) = tenure_lab::worker_main() {
        return status;
    }
    let mut harness = Harness::new();
    broken::harness(&mut harness);
    harness.test("suite::every_variant_has_its_own_name_and_a_trial", || every_variant().into());
    harness.run()
}

fn every_variant() -> Result<String, String> {
    let mut names: Vec<&str> = broken::variants().map(|v| v.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    if names.len() != count || count < 10 {
        return Err(format!("{count} variants, {} names", names.len()));
    }
    broken::variants().try_for_each(|variant| broken::trial(variant).map(drop))?;
    Ok(format!("{count} variants"))
}
