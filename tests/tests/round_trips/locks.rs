//! Sessions, and what lines up under them: mutex, read-write lock, semaphore, election.

use std::time::Duration;

use futures_util::StreamExt;
use synod::Client;
use synod_tests::{counted::Counted, wait};
use tokio::task::JoinSet;

use crate::bench::{Bench, Sheet, VALUE};

pub(crate) async fn session(bench: &Bench, sheet: &mut Sheet) {
    let peer = bench.peer().await;
    let ttl = Duration::from_secs(60);
    let begin = async { peer.client.session().ttl(ttl).await };
    let (session, counts) = peer.counted.measure(begin).await;
    let session = session.unwrap();
    sheet.alone(bench, "session", "begins", counts);
    let client = bench.stranger();
    let own = async { client.client.session().ttl(ttl).await };
    let alone = wait::soon("a session", own).await.unwrap();
    let renewed = async {
        bench.clock.advance(ttl / 3 + Duration::from_secs(1));
        wait::until("a renewal", || async {
            client.counted.counts().leases == 2
        })
        .await;
    };
    let (_, counts) = client.counted.measure(renewed).await;
    sheet.alone(bench, "session", "a third of its time is over", counts);
    let (closed, counts) = peer.counted.measure(session.close()).await;
    closed.unwrap();
    sheet.alone(bench, "session", "closes", counts);
    alone.close().await.unwrap();

    let (closed, counts) = peer.counted.measure(peer.client.clone().close()).await;
    closed.unwrap();
    sheet.alone(bench, "close", "a client in use", counts);
    let stranger = bench.stranger();
    let (closed, counts) = stranger.counted.measure(stranger.client.close()).await;
    closed.unwrap();
    sheet.alone(bench, "close", "a client never used", counts);
}

/// What eight contenders cost: in line behind somebody, as their turns come, and while they take
/// turns again and again. `$lock` is given a client, `$guard` what is held by another one.
macro_rules! contended {
    ($bench:ident, $sheet:ident, $words:literal, $release:ident, $lock:expr) => {
        for (situation, clients, counted) in eight($bench).await {
            let front = $bench.peer().await;
            let guard = $lock(front.client).await;
            let lined = async {
                let mut line = JoinSet::new();
                for client in clients.clone() {
                    line.spawn($lock(client));
                }
                line
            };
            let (mut line, counts) = counted.measure(lined).await;
            $sheet.many(
                $bench,
                concat!($words, ", until in line"),
                situation,
                counts,
                8,
            );
            let turns = async {
                guard.$release().await.unwrap();
                while let Some(guard) = line.join_next().await {
                    guard.unwrap().$release().await.unwrap();
                }
            };
            let (_, counts) = counted.measure(turns).await;
            let turn = concat!("turn comes + ", stringify!($release));
            $sheet.many($bench, turn, situation, counts, 8);
            let cycles = async {
                let mut tasks = JoinSet::new();
                for client in clients {
                    tasks.spawn(async move {
                        for _ in 0..5 {
                            let guard = $lock(client.clone()).await;
                            guard.$release().await.unwrap();
                        }
                    });
                }
                tasks.join_all().await
            };
            let (_, counts) = counted.measure(cycles).await;
            let cycle = concat!($words, " + ", stringify!($release), ", 5 times each");
            $sheet.many($bench, cycle, situation, counts, 40);
        }
    };
}

/// Clients that each stand alone, and tasks that share one.
async fn eight(bench: &Bench) -> [(&'static str, Vec<Client>, Counted); 2] {
    let (clients, counted) = bench.crowd(8).await;
    let one = bench.peer().await;
    [
        ("8 clients", clients, counted),
        ("8 tasks of a client", vec![one.client; 8], one.counted),
    ]
}

pub(crate) async fn mutex(bench: &Bench, sheet: &mut Sheet) {
    let new = bench.elsewhere().stranger();
    let (guard, counts) = new.counted.measure(new.client.mutex("new").lock()).await;
    guard.unwrap().unlock().await.unwrap();
    sheet.alone(bench, "lock", "free, a client's first", counts);

    let (a, b) = (bench.peer().await, bench.peer().await);
    let (mine, theirs) = (a.client.mutex("m"), b.client.mutex("m"));
    let (guard, counts) = a.counted.measure(mine.lock()).await;
    let guard = guard.unwrap();
    sheet.alone(bench, "lock", "free", counts);
    let (checked, counts) = a.counted.measure(guard.check()).await;
    checked.unwrap();
    sheet.alone(bench, "check", "held", counts);
    let (holder, counts) = b.counted.measure(theirs.holder()).await;
    assert!(holder.unwrap().is_some());
    sheet.alone(bench, "holder", "held", counts);
    let (tried, counts) = b.counted.measure(theirs.try_lock()).await;
    assert!(tried.unwrap().is_none());
    sheet.alone(bench, "try_lock", "held", counts);

    let lock = async move { theirs.lock().await.unwrap() };
    let (waiting, counts) = b.counted.spawn(lock).await;
    sheet.alone(bench, "lock", "held, until it stands in line", counts);
    let turn = async {
        guard.unlock().await.unwrap();
        waiting.await.unwrap()
    };
    let (guard, counts) = b.counted.measure(turn).await;
    sheet.alone(bench, "lock", "its turn comes", counts);
    let (unlocked, counts) = b.counted.measure(guard.unlock()).await;
    unlocked.unwrap();
    sheet.alone(bench, "unlock", "", counts);
    let (tried, counts) = a.counted.measure(mine.try_lock()).await;
    sheet.alone(bench, "try_lock", "free", counts);
    tried.unwrap().unwrap().unlock().await.unwrap();

    contended!(bench, sheet, "lock", unlock, async |client: Client| {
        client.mutex("m-many").lock().await.unwrap()
    });
}

pub(crate) async fn rwlock(bench: &Bench, sheet: &mut Sheet) {
    let (a, b) = (bench.peer().await, bench.peer().await);
    let (mine, theirs) = (a.client.rwlock("rw"), b.client.rwlock("rw"));
    let (reader, counts) = a.counted.measure(mine.read()).await;
    let reader = reader.unwrap();
    sheet.alone(bench, "read", "free", counts);
    let (second, counts) = b.counted.measure(theirs.read()).await;
    sheet.alone(bench, "read", "with another reader", counts);
    second.unwrap().unlock().await.unwrap();
    let (tried, counts) = b.counted.measure(theirs.try_write()).await;
    assert!(tried.unwrap().is_none());
    sheet.alone(bench, "try_write", "with a reader", counts);
    let (holders, counts) = b.counted.measure(theirs.holders()).await;
    holders.unwrap();
    sheet.alone(bench, "holders", "a reader", counts);
    let write = {
        let theirs = theirs.clone();
        async move { theirs.write().await.unwrap() }
    };
    let (waiting, counts) = b.counted.spawn(write).await;
    sheet.alone(bench, "write", "behind a reader, until in line", counts);
    let turn = async {
        reader.unlock().await.unwrap();
        waiting.await.unwrap()
    };
    let (writer, counts) = b.counted.measure(turn).await;
    sheet.alone(bench, "write", "its turn comes", counts);
    let read = {
        let mine = mine.clone();
        async move { mine.read().await.unwrap() }
    };
    let (waiting, counts) = a.counted.spawn(read).await;
    sheet.alone(bench, "read", "behind a writer, until in line", counts);
    let turn = async {
        writer.unlock().await.unwrap();
        waiting.await.unwrap()
    };
    let (reader, counts) = a.counted.measure(turn).await;
    sheet.alone(bench, "read", "its turn comes", counts);
    let (unlocked, counts) = a.counted.measure(reader.unlock()).await;
    unlocked.unwrap();
    sheet.alone(bench, "unlock", "of a reader", counts);
    let (writer, counts) = a.counted.measure(mine.write()).await;
    sheet.alone(bench, "write", "free", counts);
    let (tried, counts) = b.counted.measure(theirs.try_read()).await;
    assert!(tried.unwrap().is_none());
    sheet.alone(bench, "try_read", "with a writer", counts);
    let (unlocked, counts) = a.counted.measure(writer.unwrap().unlock()).await;
    unlocked.unwrap();
    sheet.alone(bench, "unlock", "of a writer", counts);
    let (tried, counts) = a.counted.measure(mine.try_read()).await;
    tried.unwrap().unwrap().unlock().await.unwrap();
    sheet.alone(bench, "try_read", "free", counts);
    let (tried, counts) = a.counted.measure(mine.try_write()).await;
    tried.unwrap().unwrap().unlock().await.unwrap();
    sheet.alone(bench, "try_write", "free", counts);

    // Eight readers behind a writer, and a writer behind eight readers.
    for (situation, clients, counted) in eight(bench).await {
        let writer = mine.write().await.unwrap();
        let lined = async {
            let mut line = JoinSet::new();
            for client in clients {
                line.spawn(async move { client.rwlock("rw").read().await.unwrap() });
            }
            line
        };
        let (line, counts) = counted.measure(lined).await;
        sheet.many(bench, "read, until in line", situation, counts, 8);
        let turns = async {
            writer.unlock().await.unwrap();
            line.join_all().await
        };
        let (mut readers, counts) = counted.measure(turns).await;
        sheet.many(bench, "read, all turns come", situation, counts, 8);
        readers.sort_by_key(|reader| reader.fencing_token());
        let mut order = "8 readers, the oldest goes first";
        if situation != "8 clients" {
            order = "8 readers, the newest goes first";
            readers.reverse();
        }
        let next = theirs.clone();
        let write = async move { next.write().await.unwrap() };
        let (waiting, _) = b.counted.spawn(write).await;
        let turn = async {
            for reader in readers {
                reader.unlock().await.unwrap();
                b.counted.settled().await;
            }
            waiting.await.unwrap()
        };
        let (writer, counts) = b.counted.measure(turn).await;
        sheet.alone(
            bench,
            "write",
            &format!("its turn comes behind {order}"),
            counts,
        );
        writer.unlock().await.unwrap();
    }
    contended!(bench, sheet, "write", unlock, async |client: Client| {
        client.rwlock("rw-many").write().await.unwrap()
    });
}

pub(crate) async fn semaphore(bench: &Bench, sheet: &mut Sheet) {
    let (a, b) = (bench.peer().await, bench.peer().await);
    let (mine, theirs) = (a.client.semaphore("s", 2), b.client.semaphore("s", 2));
    let (permit, counts) = a.counted.measure(mine.acquire()).await;
    let first = permit.unwrap();
    sheet.alone(bench, "acquire", "free, the first of all", counts);
    let (permit, counts) = a.counted.measure(mine.acquire()).await;
    let second = permit.unwrap();
    sheet.alone(bench, "acquire", "free", counts);
    let (checked, counts) = a.counted.measure(first.check()).await;
    checked.unwrap();
    sheet.alone(bench, "check", "held", counts);
    let (tried, counts) = b.counted.measure(theirs.try_acquire()).await;
    assert!(tried.unwrap().is_none());
    sheet.alone(bench, "try_acquire", "none left", counts);
    let (left, counts) = b.counted.measure(theirs.available_permits()).await;
    assert_eq!(left.unwrap(), 0);
    sheet.alone(bench, "available_permits", "", counts);
    let acquire = {
        let theirs = theirs.clone();
        async move { theirs.acquire().await.unwrap() }
    };
    let (waiting, counts) = b.counted.spawn(acquire).await;
    sheet.alone(bench, "acquire", "none left, until in line", counts);
    let turn = async {
        first.release().await.unwrap();
        waiting.await.unwrap()
    };
    let (permit, counts) = b.counted.measure(turn).await;
    sheet.alone(bench, "acquire", "its turn comes", counts);
    let (released, counts) = b.counted.measure(permit.release()).await;
    released.unwrap();
    sheet.alone(bench, "release", "", counts);
    let (tried, counts) = b.counted.measure(theirs.try_acquire()).await;
    sheet.alone(bench, "try_acquire", "free", counts);
    tried.unwrap().unwrap().release().await.unwrap();
    second.release().await.unwrap();
    let (resized, counts) = a.counted.measure(mine.resize(3)).await;
    sheet.alone(bench, "resize", "", counts);
    let (removed, counts) = a.counted.measure(resized.unwrap().remove()).await;
    removed.unwrap();
    sheet.alone(bench, "remove", "", counts);

    contended!(bench, sheet, "acquire", release, async |client: Client| {
        client.semaphore("s-many", 1).acquire().await.unwrap()
    });
}

pub(crate) async fn election(bench: &Bench, sheet: &mut Sheet) {
    let (a, b) = (bench.peer().await, bench.peer().await);
    let (mine, theirs) = (a.client.election("e"), b.client.election("e"));
    let (leader, counts) = a.counted.measure(mine.campaign(VALUE)).await;
    let leader = leader.unwrap();
    sheet.alone(bench, "campaign", "nobody leads", counts);
    let (proclaimed, counts) = a.counted.measure(leader.proclaim(VALUE)).await;
    proclaimed.unwrap();
    sheet.alone(bench, "proclaim", "", counts);
    let (found, counts) = b.counted.measure(theirs.leader()).await;
    assert!(found.unwrap().is_some());
    sheet.alone(bench, "leader", "", counts);
    let observer = bench.peer().await;
    let mut leaders = observer.client.election("e").observe();
    let (told, counts) = observer.counted.measure(leaders.next()).await;
    told.unwrap().unwrap();
    sheet.alone(bench, "observe", "begins", counts);
    let (tried, counts) = b.counted.measure(theirs.try_campaign(VALUE)).await;
    assert!(tried.unwrap().is_none());
    sheet.alone(bench, "try_campaign", "another leads", counts);
    let campaign = {
        let theirs = theirs.clone();
        async move { theirs.campaign(VALUE).await.unwrap() }
    };
    let (waiting, counts) = b.counted.spawn(campaign).await;
    sheet.alone(bench, "campaign", "another leads, until in line", counts);
    let change = async {
        leader.resign().await.unwrap();
        leaders.next().await
    };
    let (told, counts) = observer.counted.measure(change).await;
    told.unwrap().unwrap();
    sheet.alone(
        bench,
        "observe",
        "another candidate, who then leads",
        counts,
    );
    let leader = wait::soon("the next leader", waiting).await.unwrap();
    let (resigned, counts) = b.counted.measure(leader.resign()).await;
    resigned.unwrap();
    sheet.alone(bench, "resign", "", counts);
    let (tried, counts) = b.counted.measure(theirs.try_campaign(VALUE)).await;
    sheet.alone(bench, "try_campaign", "nobody leads", counts);
    tried.unwrap().unwrap().resign().await.unwrap();

    contended!(bench, sheet, "campaign", resign, async |client: Client| {
        client.election("e-many").campaign(VALUE).await.unwrap()
    });
}
