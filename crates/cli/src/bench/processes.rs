//! Parts of a measurement that are other processes: this program again, as `synod bench worker`. What
//! they should do goes in at their standard input, what they report comes out at their standard
//! output, one JSON object a line. A worker whose input ends gives up: it does not outlive whoever
//! started it.

use std::process::Stdio;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::part::{self, Order, Report, Share};
use super::spec::Spec;
use crate::failure::{Failure, Result};
use crate::way::Way;

/// The first line that a worker is sent.
#[derive(Serialize, Deserialize)]
struct Job {
    spec: Spec,
    share: Share,
    way: Way,
}

/// A worker process; killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Worker(Child);

impl Worker {
    /// Starts one. Its orders come from `orders`, its reports go to `reports`; one that ends without
    /// having reported so is reported as failed.
    pub(crate) fn start(
        spec: &Spec,
        share: Share,
        way: &Way,
        mut orders: mpsc::UnboundedReceiver<Order>,
        reports: mpsc::UnboundedSender<Report>,
    ) -> Result<Worker> {
        let cannot =
            |error: std::io::Error| Failure::failed("cannot start a worker").because(&error);
        let program = std::env::current_exe().map_err(cannot)?;
        let mut child = Command::new(program)
            .args(["bench", "worker"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            // Ctrl-C is for us: we tell them.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::failed("cannot speak to a worker"));
        };
        let job = Job {
            spec: spec.clone(),
            share,
            way: way.clone(),
        };
        let first = line(&job);
        tokio::spawn(async move {
            // A worker that is gone is noticed by the other pipe.
            let mut sent = stdin.write_all(first.as_bytes()).await;
            while let (Ok(()), Some(order)) = (&sent, orders.recv().await) {
                sent = stdin.write_all(line(&order).as_bytes()).await;
            }
        });
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            let mut done = false;
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(report) = serde_json::from_str::<Report>(&line) else {
                    break;
                };
                done = matches!(report, Report::Done(_) | Report::Failed(_));
                if reports.send(report).is_err() {
                    return;
                }
            }
            if !done {
                let _ = reports.send(Report::Failed("a worker process ended early".to_owned()));
            }
        });
        Ok(Worker(child))
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(mut self) {
        // Whatever it says, it has said all that we need.
        let _ = self.0.wait().await;
    }
}

fn line<T: Serialize>(value: &T) -> String {
    let mut line = serde_json::to_string(value).unwrap_or_default();
    line.push('\n');
    line
}

/// What `synod bench worker` does.
pub(crate) async fn work() -> Result<()> {
    let not_for_you = || {
        Failure::usage("`synod bench worker` is what `synod bench --processes` starts")
            .hint("`synod bench --help` lists the workloads")
    };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let first = lines.next_line().await?.unwrap_or_default();
    let job: Job = serde_json::from_str(&first).map_err(|_| not_for_you())?;
    let (orders, given) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let Ok(order) = serde_json::from_str(&line) else {
                return;
            };
            if orders.send(order).is_err() {
                return;
            }
        }
    });
    let (told, mut reports) = mpsc::unbounded_channel();
    let writing = tokio::spawn(async move {
        let mut stdout = tokio::io::stdout();
        while let Some(report) = reports.recv().await {
            stdout.write_all(line(&report).as_bytes()).await?;
            stdout.flush().await?;
        }
        Ok::<(), std::io::Error>(())
    });
    match job.way.options().connect().await {
        Ok(client) => {
            part::run(job.spec, job.share, job.way, client.clone(), given, told).await;
            let _ = client.close().await;
        }
        Err(error) => {
            let _ = told.send(Report::Failed(error.to_string()));
            drop(told);
        }
    }
    let written = writing.await;
    written.map_err(|error| Failure::failed("a task broke off").because(&error))??;
    Ok(())
}
