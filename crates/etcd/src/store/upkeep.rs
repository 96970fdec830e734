//! What a cluster says of itself, and what keeps it in shape: status, alarms, hashes,
//! defragmentation, members.

use std::time::Duration;

use synod_store::{
    Alarm, AlarmKind, Applied, Error, ErrorKind, HashResponse, Member, Result, Revision,
    StatusResponse,
};
use synod_wire::convert::error::Call;
use synod_wire::convert::status;
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::cluster_client::ClusterClient;
use synod_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use tokio::time::timeout;
use tonic::Request;

use super::{EtcdStore, LONG};
use crate::auth::attach;
use crate::channels::{Finding, Line, probe};
use crate::error::error;
use crate::retry::{Caller, Class};

impl EtcdStore {
    pub(super) async fn ask_status(&self) -> Result<StatusResponse> {
        let request = pb::StatusRequest {};
        let answer = self
            .inner
            .caller
            .call(Class::Read, request, |channel, request| async {
                MaintenanceClient::new(channel).status(request).await
            });
        answer.await?.try_into()
    }

    pub(super) async fn alarm(
        &self,
        class: Class,
        command: status::AlarmCommand,
    ) -> Result<Vec<Alarm>> {
        let request = pb::AlarmRequest::from(&command);
        let answer = self
            .inner
            .caller
            .call(class, request, |channel, request| async {
                MaintenanceClient::new(channel).alarm(request).await
            });
        status::alarms(answer.await?)
    }

    /// What is told here need not be asked for in the background.
    pub(super) async fn ask_members(&self) -> Result<Vec<Member>> {
        let members = self.inner.caller.members().await?;
        if self.inner.learns {
            self.inner.caller.channels.learn(&members);
        }
        Ok(members)
    }

    /// An alarm is a member's: each that stands is taken back by itself.
    pub(super) async fn disarm_all(&self, kind: AlarmKind) -> Result<Vec<Alarm>> {
        let standing = self
            .alarm(Class::Read, status::AlarmCommand::Get(Some(kind)))
            .await?;
        let standing: Vec<Alarm> = standing.into_iter().filter(|a| a.kind == kind).collect();
        for alarm in &standing {
            self.alarm(Class::Idempotent, status::AlarmCommand::Disarm(*alarm))
                .await?;
        }
        Ok(standing)
    }

    pub(super) async fn hash(&self, revision: Revision) -> Result<HashResponse> {
        let request = pb::HashKvRequest {
            revision: revision.as_i64(),
        };
        let answer = self
            .inner
            .caller
            .call(Class::Read, request, |channel, request| async {
                MaintenanceClient::new(channel).hash_kv(request).await
            });
        status::hash_response(revision, answer.await?)
    }

    /// Defragments every member that can be reached, one after another: a member does not serve
    /// while it is at it.
    pub(super) async fn defragment_all(&self) -> Result<()> {
        let caller = &self.inner.caller;
        let mut done: Vec<u64> = Vec::new();
        let mut failed = None;
        for line in caller.channels.all_lines() {
            let known = caller.auth.known();
            let member = match probe(&line, known, self.inner.connect_timeout).await {
                Finding::Fit(found) | Finding::NoLeader(found) => found.member,
                Finding::Failed(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            if member.is_some_and(|member| done.contains(&member)) {
                continue;
            }
            let limit = LONG.max(caller.timeout);
            timeout(limit, caller.defragment(&line))
                .await
                .map_err(|_| {
                    let text = format!("{} has not finished within {limit:?}", line.url());
                    Error::new(ErrorKind::Timeout, text).with_applied(Applied::Maybe)
                })??;
            done.extend(member);
        }
        match failed {
            Some(error) if done.is_empty() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Asks for the cluster's members from time to time, at once first.
pub(super) async fn learn_members(caller: Caller, interval: Duration) {
    loop {
        match caller.members().await {
            Ok(members) => caller.channels.learn(&members),
            Err(error) => tracing::debug!(%error, "members not learned"),
        }
        tokio::time::sleep(interval).await;
    }
}

impl Caller {
    /// The cluster's members.
    pub(super) async fn members(&self) -> Result<Vec<Member>> {
        let request = pb::MemberListRequest { linearizable: true };
        let answer = self.call(Class::Read, request, |channel, request| async {
            ClusterClient::new(channel).member_list(request).await
        });
        answer.await.map(status::members)
    }

    /// Defragments one member.
    async fn defragment(&self, line: &Line) -> Result<()> {
        let failed = |status| error(status, Call::Read, line.url());
        let token = self.auth.token(line.channel()).await.map_err(failed)?;
        let mut request = Request::new(pb::DefragmentRequest {});
        attach(request.metadata_mut(), &token);
        let mut client = MaintenanceClient::new(line.channel().clone());
        client.defragment(request).await.map_err(failed)?;
        Ok(())
    }
}
