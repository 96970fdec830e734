//! The endpoints of a cluster, one channel each, of which one does the work.
//!
//! A channel is made when its endpoint is first tried, and thrown away with everything on it as
//! soon as the endpoint is known to be dead: those who wait on it for an answer learn it at once
//! ([`Line::down`]), and nothing is ever sent into a connection that leads nowhere.
//!
//! An endpoint is dead when a connection to it cannot be made or breaks, when HTTP/2 pings go
//! unanswered, or when somebody who has waited for long [suspects](Channels::suspect) it and it
//! does not answer [a question](probe) either. So a request that merely takes long is left alone.
//!
//! When there is no current endpoint, the others are tried side by side, each a moment after the
//! one before, and the first that is fit becomes the current one. Callers wait for one such race
//! together.

mod address;
mod health;
mod probe;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use synod_store::{Error, ErrorKind, Member, Result};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::auth::Auth;
use crate::connector::Connector;
use crate::error::copy;
use crate::options::EtcdOptions;
use crate::tls;
use address::Address;
use health::{Candidates, Health};
pub(crate) use probe::{Finding, probe};

/// How long an endpoint that is tried has for itself before the next one is tried too.
const STAGGER: Duration = Duration::from_millis(150);

/// How long an endpoint that is suspected has to answer a question.
const SUSPICION_LIMIT: Duration = Duration::from_secs(2);

/// How the client names itself.
const USER_AGENT: &str = concat!("synod-etcd/", env!("CARGO_PKG_VERSION"));

/// A channel to one endpoint, for as long as the endpoint is not known to be dead.
#[derive(Debug)]
pub(crate) struct Line {
    slot: usize,
    url: Arc<str>,
    channel: Channel,
    down: CancellationToken,
    ordered_progress: AtomicBool,
    suspected: AtomicBool,
}

impl Line {
    /// Where it leads.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What to send on.
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Returns when the endpoint is known to be dead; no answer will come then.
    pub(crate) async fn down(&self) {
        self.down.cancelled().await;
    }

    /// Whether a progress that was asked for comes in its place among the events of a watch.
    pub(crate) fn ordered_progress(&self) -> bool {
        self.ordered_progress.load(Ordering::Relaxed)
    }
}

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

    /// Tries the endpoints side by side.
    async fn race(&self, candidates: Vec<usize>) -> Result<Arc<Line>> {
        let mut waiting = candidates.into_iter();
        let mut running = FuturesUnordered::new();
        let mut errors = Vec::new();
        let mut spare = None;
        let limit = self.options.connect_timeout;
        let begin = |slot| async move {
            let line = self.state().line(slot);
            match line {
                Some(line) => {
                    let finding = probe(&line, self.auth.known(), limit).await;
                    Some((self.checked(&line, finding), line))
                }
                None => None,
            }
        };
        running.extend(waiting.next().map(begin));
        loop {
            tokio::select! {
                found = running.next(), if !running.is_empty() => match found.flatten() {
                    Some((Finding::Fit(_), line)) => return Ok(self.won(line)),
                    Some((Finding::NoLeader(_), line)) => spare = Some(line),
                    Some((Finding::Failed(error), line)) => {
                        tracing::debug!(endpoint = line.url(), %error, "endpoint failed");
                        self.failed(&line);
                        errors.push(error);
                    }
                    None => {}
                },
                () = sleep(STAGGER), if !running.is_empty() && waiting.len() > 0 => {}
                else => break,
            }
            running.extend(waiting.next().map(begin));
        }
        // Without a leader anywhere, a member that will hear of the next one is the best there is.
        if let Some(line) = spare {
            return Ok(self.won(line));
        }
        let error = none_answers(errors);
        let mut state = self.state();
        state.lost = (state.lost.0 + 1, Some(copy(&error)));
        Err(error)
    }

    fn won(&self, line: Arc<Line>) -> Arc<Line> {
        tracing::debug!(endpoint = line.url(), "endpoint chosen");
        self.state().health.succeeded(line.slot);
        line
    }

    /// Notes what is learned about an endpoint, and refuses one of another cluster: its revisions
    /// have nothing to do with those that were seen.
    fn checked(&self, line: &Line, finding: Finding) -> Finding {
        let (Finding::Fit(identity) | Finding::NoLeader(identity)) = &finding else {
            return finding;
        };
        line.ordered_progress
            .store(identity.ordered_progress, Ordering::Relaxed);
        let Some(cluster) = identity.cluster else {
            return finding;
        };
        let known = *self.state().cluster.get_or_insert(cluster);
        if cluster == known {
            return finding;
        }
        Finding::Failed(Error::new(
            ErrorKind::Other,
            format!(
                "{} serves another cluster ({cluster:x}) than this client began with ({known:x})",
                line.url()
            ),
        ))
    }

    /// The endpoint is dead: whoever waits on the line is told, and the next call tries others.
    pub(crate) fn failed(&self, line: &Arc<Line>) {
        let mut state = self.state();
        if let Some(slot) = state.slots.get_mut(line.slot)
            && slot.line.as_ref().is_some_and(|own| Arc::ptr_eq(own, line))
        {
            slot.line = None;
            let jitter = rand::random();
            state.health.failed(line.slot, Instant::now(), jitter);
        }
        drop(state);
        line.down.cancel();
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
        if line.down.is_cancelled() || line.suspected.swap(true, Ordering::Relaxed) {
            return;
        }
        let (channels, line) = (Arc::clone(self), Arc::clone(line));
        tokio::spawn(async move {
            let finding = probe(&line, channels.auth.known(), SUSPICION_LIMIT).await;
            match channels.checked(&line, finding) {
                Finding::Fit(_) => {}
                Finding::NoLeader(_) => channels.demoted(&line),
                Finding::Failed(error) => {
                    tracing::debug!(endpoint = line.url(), %error, "endpoint gone silent");
                    channels.failed(&line);
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
            Arc::new(Line {
                slot,
                url: entry.address.to_string().into(),
                channel: match &self.connector {
                    None => entry.endpoint.connect_lazy(),
                    Some(own) => entry.endpoint.connect_with_connector_lazy(own.clone()),
                },
                down: CancellationToken::new(),
                ordered_progress: AtomicBool::new(false),
                suspected: AtomicBool::new(false),
            })
        });
        Some(Arc::clone(line))
    }
}

/// What a channel to this address is made from.
fn endpoint(address: &Address, options: &EtcdOptions) -> Result<Endpoint> {
    let malformed = |error: tonic::transport::Error| {
        Error::new(
            ErrorKind::InvalidAddress,
            format!("invalid address `{address}`: {error}"),
        )
    };
    let endpoint = Endpoint::from_shared(address.to_string())
        .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
        .map_err(malformed)?
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(options.keep_alive.interval)
        .keep_alive_timeout(options.keep_alive.timeout);
    if address.is_secure() {
        tls::secure(endpoint, options.tls.as_ref(), options.connect_timeout)
    } else {
        Ok(endpoint)
    }
}

/// One error for those of all endpoints that were tried.
fn none_answers(mut errors: Vec<Error>) -> Error {
    let Some(last) = errors.pop() else {
        return Error::new(ErrorKind::Unavailable, "no endpoint is in use");
    };
    let mut error = if errors.is_empty() {
        last
    } else {
        errors.push(last);
        // What will not go away by itself says more than what may.
        let telling = errors.iter().find(|error| !error.is_transient());
        let same = |kind| errors.iter().all(|error| error.kind() == kind);
        let kind = match (telling, errors.first().map(Error::kind)) {
            (Some(error), _) => error.kind(),
            (None, Some(kind)) if same(kind) => kind,
            _ => ErrorKind::Unavailable,
        };
        let reasons: Vec<&str> = errors.iter().map(Error::message).collect();
        Error::new(kind, reasons.join("; "))
    };
    if error.kind() == ErrorKind::ConnectionRefused {
        let message = format!(
            "{}; start one with `synod serve` or name another address with --addr",
            error.message()
        );
        error = Error::new(ErrorKind::ConnectionRefused, message).with_source(error);
    }
    error
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
    async fn a_dead_line_is_replaced_and_its_users_are_told() {
        let channels = channels(&["127.0.0.1:1"]);
        let line = channels.all_lines().remove(0);
        channels.failed(&line);
        line.down().await;
        let other = channels.all_lines().remove(0);
        assert!(!Arc::ptr_eq(&line, &other));
        // Reported twice, it harms nobody.
        channels.failed(&line);
        assert!(!other.down.is_cancelled());
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

    #[test]
    fn the_error_of_many_endpoints_names_each_and_what_will_not_go_away() {
        let error = |kind, text: &str| Error::new(kind, text);
        let refused = || error(ErrorKind::ConnectionRefused, "nothing listens at a");
        let one = none_answers(vec![refused()]);
        assert_eq!(one.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(
            one.message(),
            "nothing listens at a; start one with `synod serve` or name another address with --addr"
        );
        let mixed = none_answers(vec![
            refused(),
            error(ErrorKind::Timeout, "no answer from b"),
        ]);
        assert_eq!(mixed.kind(), ErrorKind::Unavailable);
        assert_eq!(mixed.message(), "nothing listens at a; no answer from b");
        let tls = none_answers(vec![refused(), error(ErrorKind::Tls, "c")]);
        assert_eq!(tls.kind(), ErrorKind::Tls);
    }
}
