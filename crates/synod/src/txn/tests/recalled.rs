//! Random transactions: an answer that is read again is the answer that was lost.

use rand::Rng;
use rand::rngs::StdRng;
use rand::{SeedableRng, seq::IndexedRandom};
use synod_store::{Key, RangeRequest, SortOrder, SortTarget, Store};

use super::*;
use crate::testing::{Fault, Faulty};

const KEYS: [&str; 6] = ["k/a", "k/b", "k/c", "k/d", "k/e", "k/f"];

struct Random(StdRng);

impl Random {
    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all.choose(&mut self.0).unwrap().clone()
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.0.random_ratio(percent, 100)
    }

    fn range(&mut self) -> KeyRange {
        let (one, other) = (self.one_of(&KEYS), self.one_of(&KEYS));
        match self.0.random_range(0..6) {
            0..3 => KeyRange::one(one),
            3 => KeyRange::prefix("k/"),
            4 => KeyRange::From(one.into()),
            // Sometimes an empty one.
            _ => KeyRange::between(one, other),
        }
    }

    fn compare(&mut self) -> Compare {
        let range = match self.chance(80) {
            true => KeyRange::one(self.one_of(&KEYS)),
            false => KeyRange::prefix("k/"),
        };
        let op = self.one_of(&[
            CompareOp::Equal,
            CompareOp::NotEqual,
            CompareOp::Greater,
            CompareOp::Less,
        ]);
        match self.0.random_range(0..3) {
            0 => Compare::version(range, op, self.0.random_range(0..3)),
            1 => Compare::value(range, op, self.one_of(&["0", "1", "2"])),
            _ => Compare::create_revision(range, op, Revision(self.0.random_range(0..20))),
        }
    }

    fn op(&mut self, depth: u32) -> TxnOp {
        match self.0.random_range(0..10) {
            0..4 => {
                let mut request = RangeRequest::new(self.range());
                request.limit = self.0.random_range(0..3);
                request.keys_only = self.chance(20);
                request.count_only = self.chance(10);
                let target = self.one_of(&[SortTarget::Key, SortTarget::ModRevision]);
                let order = self.one_of(&[SortOrder::None, SortOrder::Descending]);
                request.sorted_by(target, order).into()
            }
            4..7 => {
                let mut request =
                    PutRequest::new(self.one_of(&KEYS), self.0.random_range(0..3).to_string());
                request.prev_kv = self.chance(50);
                request.into()
            }
            7..9 => {
                let mut request = DeleteRequest::new(self.range());
                request.prev_kv = self.chance(50);
                request.into()
            }
            _ if depth == 0 => get("k/a"),
            _ => self.txn(depth - 1).into(),
        }
    }

    fn ops(&mut self, depth: u32) -> Vec<TxnOp> {
        (0..self.0.random_range(0..4))
            .map(|_| self.op(depth))
            .collect()
    }

    fn txn(&mut self, depth: u32) -> synod_store::Txn {
        let compares = (0..self.0.random_range(0..3)).map(|_| self.compare());
        let compares: Vec<Compare> = compares.collect();
        let (success, failure) = (self.ops(depth), self.ops(depth));
        nested().when(compares).and_then(success).or_else(failure)
    }
}

#[tokio::test]
async fn an_answer_that_is_read_again_is_the_one_that_was_lost() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = Random(StdRng::seed_from_u64(seed));
    let told = Faulty::new();
    let lost = Faulty::new();
    let clients = [told.client(PATIENCE), lost.client(PATIENCE)];
    for client in &clients {
        client.txn().and_then([put("k/a", "0")]).await.unwrap();
    }
    let (mut recalled, mut unreadable) = (0, 0);
    for _ in 0..400 {
        let txn = random.txn(2);
        let run = |client: &Client| {
            let inner = txn.clone();
            client
                .txn()
                .when(inner.compares)
                .and_then(inner.success)
                .or_else(inner.failure)
        };
        // Most others put a key twice.
        let Ok(answer) = run(&clients[0]).await else {
            continue;
        };
        lost.script([Fault::Lose]);
        match run(&clients[1]).await {
            Ok(again) => {
                recalled += 1;
                assert_eq!(format!("{again:#?}"), format!("{answer:#?}"), "{txn:#?}");
            }
            Err(Error::AnswersLost {
                revision,
                succeeded,
                reason,
            }) => {
                unreadable += 1;
                assert_eq!(revision, answer.header.revision);
                assert_eq!(succeeded, answer.succeeded);
                assert!(reason.contains("between two writes"), "{reason}");
            }
            Err(error) => panic!("{error}: {txn:#?}"),
        }
    }
    println!("{recalled} recalled, {unreadable} not");
    assert!(recalled > 150, "{recalled}");
    assert!(unreadable * 10 < recalled, "{unreadable} of {recalled}");
}

#[tokio::test]
async fn what_is_compacted_cannot_be_read_again_and_says_so() {
    let faulty = Faulty::new();
    let client = faulty.client(PATIENCE);
    client.txn().and_then([put("k", "1")]).await.unwrap();
    faulty.script([Fault::Lose]);
    faulty.close_gate(1);
    let txn = client.txn().and_then([get("k"), delete("k")]);
    let running = tokio::spawn(txn.into_future());
    assert!(faulty.wait_at_gate().await);
    let header = faulty
        .engine
        .put(PutRequest::new("x", ""))
        .await
        .unwrap()
        .header;
    faulty.engine.compact(header.revision, true).await.unwrap();
    faulty.open_gate();
    let error = running.await.unwrap().unwrap_err();
    assert!(
        error.is_maybe_committed() && !error.is_retryable(),
        "{error}"
    );
    assert!(
        matches!(
            &error,
            Error::AnswersLost {
                succeeded: true,
                ..
            }
        ),
        "{error}"
    );
    let left = faulty.engine.range(RangeRequest::new("k")).await.unwrap();
    assert_eq!(left.kvs.len(), 0);
    let key = Key::from("x");
    let other = client.txn().and_then([get(&key)]).await.unwrap();
    assert_eq!(other.range(0).unwrap().kvs[0].key, key);
}
