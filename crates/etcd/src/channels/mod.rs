//! The endpoints of a cluster, one channel each, of which one does the work.
//!
//! A channel is made when its endpoint is first tried, and replaced when the endpoint has failed:
//! a connection to it cannot be made or breaks, HTTP/2 pings go unanswered, or somebody who has
//! waited for long [suspects](Channels::suspect) it and it does not answer [a question](probe)
//! either. Then those who wait on the channel learn it at once ([`Line::down`]). So nothing is sent
//! into a connection that leads nowhere, and a request that merely takes long is left alone.
//!
//! When there is no current endpoint, the others are tried side by side, each a moment after the
//! one before, and the first that is fit becomes the current one. Callers wait for one such race
//! together.

mod address;
mod health;
mod line;
mod probe;
mod race;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use synod_store::{Error, ErrorKind, Member, Result};
use tokio::time::{Instant, sleep_until};
use tonic::transport::Endpoint;

use crate::auth::Auth;
use crate::connector::Connector;
use crate::error::copy;
use crate::options::EtcdOptions;
use address::Address;
use health::{Candidates, Health};
pub(crate) use line::Line;
use line::endpoint;
pub(crate) use probe::{Finding, probe};

/// How long an endpoint that is suspected has to answer a question.
const SUSPICION_LIMIT: Duration = Duration::from_secs(2);

/// All endpoints.
#[derive(Debug)]
pub(crate) struct Channels {
    options: EtcdOptions,
    auth: Arc<Auth>,
    state: Mutex<State>,
    /// Held during a race.
    racing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    health: Health,
    slots: Vec<Slot>,
    connector: Option<Connector>,
    /// The cluster that answered first; no other will do.
    cluster: Option<u64>,
    /// How many races were lost, and why the last one was.
    lost: (u64, Option<Error>),
}

#[derive(Debug)]
struct Slot {
    address: Address,
    endpoint: Endpoint,
    line: Option<Arc<Line>>,
    /// Given by the user, not learned from the cluster.
    configured: bool,
}

impl Channels {
    /// The endpoints that the options name. Nothing is connected yet.
    pub(crate) fn new(options: EtcdOptions, auth: Arc<Auth>) -> Result<Channels> {
        let secure = options.tls.is_some();
        let mut slots: Vec<Slot> = Vec::new();
        for text in &options.endpoints {
            let address = Address::parse(text, secure)?;
            if secure && !address.is_secure() {
                return Err(Error::new(
                    ErrorKind::InvalidAddress,
                    format!(
                        "`{address}` is without TLS, and TLS options are given: write https://, or \
                         leave them away"
                    ),
                ));
            }
            if slots.iter().all(|slot| slot.address != address) {
                slots.push(Slot {
                    endpoint: endpoint(&address, &options)?,
                    address,
                    line: None,
                    configured: true,
                });
            }
        }
        if slots.is_empty() {
            return Err(Error::new(ErrorKind::InvalidAddress, "no address is given"));
        }
        // Clients with the same list spread over the members.
        let start = rand::random_range(0..slots.len());
        let state = State {
            health: Health::new(slots.len(), start),
            slots,
            connector: options.connector.clone(),
            cluster: None,
            lost: (0, None),
        };
        Ok(Channels {
            options,
            auth,
            state: Mutex::new(state),
            racing: tokio::sync::Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line to an endpoint that is fit, as far as is known.
    ///
    /// # Errors
    ///
    /// Why none is, after each that was due has been tried once. Nothing was sent.
    pub(crate) async fn line(&self) -> Result<Arc<Line>> {
        let lost = match self.current() {
            Ok(line) => return Ok(line),
            Err(lost) => lost,
        };
        let _racing = self.racing.lock().await;
        match self.current() {
            Ok(line) => return Ok(line),
            // Somebody else has just tried.
            Err(now) if now != lost => {
                if let Some(error) = &self.state().lost.1 {
                    return Err(copy(error));
                }
            }
            Err(_) => {}
        }
        let candidates = loop {
            let candidates = self.state().health.candidates(Instant::now());
            match candidates {
                Candidates::Now(candidates) => break candidates,
                Candidates::At(time) => sleep_until(time).await,
            }
        };
        self.race(candidates).await
    }

    /// The current line, or how many races have been lost.
    fn current(&self) -> std::result::Result<Arc<Line>, u64> {
        let mut state = self.state();
        let line = match state.health.current() {
            Some(slot) => state.line(slot),
            None => None,
        };
        line.ok_or(state.lost.0)
    }

    /// The connection was not made, or broke: the next call tries others first. Whoever waits on
    /// the line for an answer is left alone: on a broken connection they see it themselves, and it
    /// may have been a single request that failed.
    pub(crate) fn broken(&self, line: &Arc<Line>) {
        let mut state = self.state();
        if let Some(slot) = state.slots.get_mut(line.slot)
            && slot.line.as_ref().is_some_and(|own| Arc::ptr_eq(own, line))
        {
            slot.line = None;
            let jitter = rand::random();
            state.health.failed(line.slot, Instant::now(), jitter);
        }
    }

    /// The endpoint answers, but cannot serve now: the next call tries others first.
    pub(crate) fn demoted(&self, line: &Arc<Line>) {
        let mut state = self.state();
        if state.health.current() == Some(line.slot) {
            tracing::debug!(endpoint = line.url(), "endpoint not fit");
            let jitter = rand::random();
            state.health.failed(line.slot, Instant::now(), jitter);
        }
    }

    /// Somebody has waited on the line for long. Asks the endpoint whether it is there at all, in
    /// the background, unless that is being asked already.
    pub(crate) fn suspect(self: &Arc<Self>, line: &Arc<Line>) {
        if line.is_down() || line.suspected.swap(true, Ordering::Relaxed) {
            return;
        }
        let (channels, line) = (Arc::clone(self), Arc::clone(line));
        tokio::spawn(async move {
            let finding = probe(&line, channels.auth.known(), SUSPICION_LIMIT).await;
            match channels.checked(&line, finding) {
                Finding::Fit(_) => {}
                Finding::NoLeader(_) => {
                    channels.broken(&line);
                    line.leave();
                }
                Finding::Failed(error) => {
                    tracing::debug!(endpoint = line.url(), %error, "endpoint gone silent");
                    channels.broken(&line);
                    line.give_up();
                }
            }
            line.suspected.store(false, Ordering::Relaxed);
        });
    }

    /// Lines to all endpoints in use, for what every member has to be asked.
    pub(crate) fn all_lines(&self) -> Vec<Arc<Line>> {
        let mut state = self.state();
        (0..state.slots.len())
            .filter(|slot| !state.health.is_retired(*slot))
            .collect::<Vec<_>>()
            .into_iter()
            .filter_map(|slot| state.line(slot))
            .collect()
    }

    /// Takes over the addresses of a cluster's members, beside those that the user gave.
    pub(crate) fn learn(&self, members: &[Member]) {
        let mut state = self.state();
        let configured: Vec<Address> = state
            .slots
            .iter()
            .filter(|slot| slot.configured)
            .map(|slot| slot.address.clone())
            .collect();
        let advertised: Vec<Address> = members
            .iter()
            .filter(|member| !member.is_learner)
            .flat_map(|member| &member.client_urls)
            .filter_map(|url| Address::advertised(url, &configured))
            .collect();
        for address in &advertised {
            if state.slots.iter().any(|slot| slot.address == *address) {
                continue;
            }
            if let Ok(endpoint) = endpoint(address, &self.options) {
                tracing::debug!(%address, "member learned");
                state.health.add();
                state.slots.push(Slot {
                    address: address.clone(),
                    endpoint,
                    line: None,
                    configured: false,
                });
            }
        }
        let State { health, slots, .. } = &mut *state;
        for (index, slot) in slots.iter_mut().enumerate() {
            let retired = !slot.configured && !advertised.contains(&slot.address);
            if retired {
                slot.line = None;
            }
            health.set_retired(index, retired);
        }
    }
}

impl State {
    /// The line of an endpoint, made when there is none.
    fn line(&mut self, slot: usize) -> Option<Arc<Line>> {
        let entry = self.slots.get_mut(slot)?;
        let line = entry.line.get_or_insert_with(|| {
            let channel = match &self.connector {
                None => entry.endpoint.connect_lazy(),
                Some(own) => entry.endpoint.connect_with_connector_lazy(own.clone()),
            };
            Line::new(slot, &entry.address, channel)
        });
        Some(Arc::clone(line))
    }
}

#[cfg(test)]
mod tests {
    use super::probe::Identity;
    use super::*;

    fn channels(endpoints: &[&str]) -> Channels {
        let options = EtcdOptions::new(endpoints.iter().copied());
        Channels::new(options, Arc::new(Auth::new(None))).unwrap()
    }

    fn urls(channels: &Channels) -> Vec<String> {
        let lines = channels.all_lines();
        lines.iter().map(|line| line.url().to_string()).collect()
    }

    fn member(url: &str, is_learner: bool) -> Member {
        Member {
            client_urls: vec![url.to_string()],
            is_learner,
            ..Member::default()
        }
    }

    #[tokio::test]
    async fn with_certificates_nothing_is_said_in_the_clear() {
        let channels = |endpoints: &[&str]| {
            let options = EtcdOptions::new(endpoints.iter().copied());
            let options = options.with_tls(crate::TlsOptions::new().with_domain("x"));
            Channels::new(options, Arc::new(Auth::new(None)))
        };
        let error = channels(&["10.0.0.1:1", "http://10.0.0.2:1"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidAddress);
        assert!(error.to_string().contains("http://10.0.0.2:1"), "{error}");
        let channels = channels(&["10.0.0.1:1"]).unwrap();
        channels.learn(&[member("http://10.0.0.3:1", false)]);
        assert_eq!(urls(&channels), ["https://10.0.0.1:1"]);
    }

    #[tokio::test]
    async fn members_come_and_go_and_what_the_user_gave_stays() {
        let channels = channels(&["10.0.0.1:1", "http://10.0.0.1:1"]);
        assert_eq!(urls(&channels), ["http://10.0.0.1:1"]);
        let members = [
            member("http://10.0.0.2:1", false),
            member("http://0.0.0.0:1", false),
            member("http://10.0.0.3:1", true),
        ];
        channels.learn(&members);
        assert_eq!(urls(&channels), ["http://10.0.0.1:1", "http://10.0.0.2:1"]);
        channels.learn(&[]);
        assert_eq!(urls(&channels), ["http://10.0.0.1:1"]);
        channels.learn(&members);
        assert_eq!(urls(&channels), ["http://10.0.0.1:1", "http://10.0.0.2:1"]);
    }

    #[tokio::test]
    async fn a_broken_line_is_replaced_once() {
        let channels = channels(&["127.0.0.1:1"]);
        let line = channels.all_lines().remove(0);
        channels.broken(&line);
        assert!(!line.is_down());
        let other = channels.all_lines().remove(0);
        assert!(!Arc::ptr_eq(&line, &other));
        // Reported again, by another who waited on it.
        channels.broken(&line);
        assert!(Arc::ptr_eq(&other, &channels.all_lines().remove(0)));
    }

    #[tokio::test]
    async fn those_who_wait_on_a_silent_endpoint_are_told() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = silent.local_addr().unwrap().to_string();
        let channels = Arc::new(channels(&[&url]));
        let line = channels.all_lines().remove(0);
        channels.suspect(&line);
        channels.suspect(&line);
        line.down().await;
        line.left().await;
        assert!(!Arc::ptr_eq(&line, &channels.all_lines().remove(0)));
    }

    #[tokio::test]
    async fn another_cluster_is_refused() {
        let channels = channels(&["127.0.0.1:1"]);
        let line = channels.all_lines().remove(0);
        let of = |cluster| {
            Finding::Fit(Identity {
                cluster: Some(cluster),
                ..Identity::default()
            })
        };
        assert!(matches!(channels.checked(&line, of(1)), Finding::Fit(_)));
        assert!(matches!(channels.checked(&line, of(1)), Finding::Fit(_)));
        let Finding::Failed(error) = channels.checked(&line, of(2)) else {
            panic!("another cluster");
        };
        assert!(error.message().contains("another cluster"), "{error}");
    }
}
