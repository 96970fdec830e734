//! `cargo xtask verify`: everything that can be checked without running a test. It writes nothing
//! but build products below `target/`. All steps run, whichever of them fails.

use std::process::Command;

use anyhow::{Result, bail};

use crate::steps::{Steps, cargo, run as run_program};
use crate::{codegen, go, house, licences};

/// Packages with the feature sets that users may choose, each of which must build alone.
const COMBINATIONS: &[(&str, &str)] = &[
    ("synod-store", ""),
    ("synod-etcd", ""),
    ("synod-etcd", "tls-ring"),
    ("synod", ""),
    ("synod", "embedded"),
    ("synod", "etcd"),
    ("synod", "etcd,tls-ring,tls-webpki-roots"),
];

/// Runs the command; it takes no arguments.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("unknown arguments {args:?}; there are none");
    }
    let mut steps = Steps::default();
    steps.step("format", || {
        run_program(&mut cargo(&["fmt", "--all", "--check"])?)
    });
    steps.step("format of Go", go::check_format);
    steps.step("house rules", house::check);
    steps.step("generated code", || codegen::run(&["--check".to_string()]));
    steps.step("licences", licences::check);
    if has_cargo_deny()? {
        steps.step("cargo deny", || {
            run_program(&mut cargo(&[
                "deny", "check", "bans", "licenses", "sources",
            ])?)
        });
    }
    steps.step("rust version", licences::check_rust_version);
    steps.step("clippy", || {
        let mut clippy = cargo(&["clippy", "--locked", "--workspace", "--all-targets"])?;
        run_program(clippy.args(["--all-features", "--", "-D", "warnings"]))
    });
    for (package, features) in COMBINATIONS {
        let name = format!("{package} with [{features}]");
        steps.step(&name, || {
            let mut clippy = cargo(&["clippy", "--locked", "--package", package, "--lib"])?;
            clippy.args(["--no-default-features", "--features", features]);
            run_program(clippy.args(["--", "-D", "warnings"]))
        });
    }
    steps.step("documentation", || {
        // Libraries only: the command's page would land where the library `synod` has its own.
        let mut doc = cargo(&[
            "doc",
            "--locked",
            "--workspace",
            "--lib",
            "--no-deps",
            "--all-features",
        ])?;
        run_program(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
    steps.finish()
}

fn has_cargo_deny() -> Result<bool> {
    let output = Command::new("cargo-deny").arg("--version").output();
    Ok(output.is_ok_and(|output| output.status.success()))
}
