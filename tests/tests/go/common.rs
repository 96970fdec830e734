//! What several of the tests share: the ground on which holders of a lock show that they are alone,
//! and the bank.

use std::time::Duration;

use synod::Client;
use synod::store::{
    Compare, DeleteRequest, KeyRange, PutRequest, RangeRequest, RangeResponse, Txn, TxnOp,
};
use synod_tests::wait;

/// How long leases live that are kept alive.
pub(crate) const TTL: Duration = Duration::from_secs(30);

/// Where the holders of a lock work: `NAME/writer` is there while a writer is inside, and
/// `NAME/readers/X` while a reader is; `NAME/count` holds how often it was written, and the token of
/// the last writer. Nothing but the lock keeps two writers from writing the same count. The Go
/// program does the same (`peers/go/recipes/locks.go`).
pub(crate) struct Ground {
    client: Client,
    name: &'static str,
}

impl Ground {
    pub(crate) fn new(client: &Client, name: &'static str) -> Ground {
        let client = client.clone();
        Ground { client, name }
    }

    /// Adds one to the count, with nobody inside and a token above the one before (0 for none).
    pub(crate) async fn write(&self, token: u64) {
        let inside = self.key("writer");
        let readers = KeyRange::prefix(self.key("readers/"));
        let alone = [Compare::absent(inside.as_str()), Compare::absent(readers)];
        assert!(self.enter(alone, &inside).await, "a writer found somebody");
        let (count, last) = self.count().await;
        assert!(
            token == 0 || token > last,
            "token {token} came after {last}"
        );
        let next = format!("{} {}", count + 1, if token == 0 { last } else { token });
        let put = PutRequest::new(self.key("count"), next);
        self.client.store().put(put).await.unwrap();
        self.leave(inside).await;
    }

    /// Sees that the count stays, with no writer inside.
    pub(crate) async fn read(&self, name: &str) {
        let unwritten = [Compare::absent(self.key("writer"))];
        let inside = self.key(&format!("readers/{name}"));
        assert!(
            self.enter(unwritten, &inside).await,
            "a reader found a writer"
        );
        assert_eq!(self.count().await, self.count().await);
        self.leave(inside).await;
    }

    /// How often it was written, and the last token.
    pub(crate) async fn count(&self) -> (u64, u64) {
        let found = get(&self.client, KeyRange::one(self.key("count"))).await;
        let Some(kv) = found.kvs.first() else {
            return (0, 0);
        };
        let text = std::str::from_utf8(&kv.value).unwrap();
        let (count, token) = text.split_once(' ').unwrap();
        (count.parse().unwrap(), token.parse().unwrap())
    }

    async fn enter<const N: usize>(&self, when: [Compare; N], key: &str) -> bool {
        let put = TxnOp::from(PutRequest::new(key, "Rust"));
        let txn = Txn::new().when(when).and_then([put]);
        self.client.store().txn(txn).await.unwrap().succeeded
    }

    async fn leave(&self, key: String) {
        let delete = DeleteRequest::new(key.as_str());
        let deleted = self.client.store().delete(delete).await.unwrap().deleted;
        assert_eq!(deleted, 1, "{key} was gone before it was deleted");
    }

    fn key(&self, rest: &str) -> String {
        format!("{}/{rest}", self.name)
    }
}

/// What is there.
pub(crate) async fn get(client: &Client, range: KeyRange) -> RangeResponse {
    client
        .store()
        .range(RangeRequest::new(range))
        .await
        .unwrap()
}

/// Waits until so many keys begin with `prefix`: that many hold or stand in the line.
pub(crate) async fn until_keys(client: &Client, prefix: &str, count: u64) {
    wait::until(format!("{count} keys below {prefix}"), || async {
        get(client, KeyRange::prefix(prefix)).await.count == count
    })
    .await;
}

/// How many accounts the bank has.
pub(crate) const ACCOUNTS: usize = 5;

/// Where the accounts are; their numbers follow.
pub(crate) const ACCOUNT: &str = "accts/";

/// The levels at which no transfer can lose money, as the Go program names them.
pub(crate) const VALIDATING: [&str; 3] =
    ["serializable-snapshot", "serializable", "repeatable-reads"];

/// Opens the bank, with 100 on each account.
pub(crate) async fn open(client: &Client) {
    for number in 0..ACCOUNTS {
        let put = PutRequest::new(format!("{ACCOUNT}{number}"), "100");
        client.store().put(put).await.unwrap();
    }
}

/// What is on all accounts together, and that there are as many as there were.
pub(crate) async fn sum(client: &Client) -> u64 {
    let accounts = get(client, KeyRange::prefix(ACCOUNT)).await.kvs;
    assert_eq!(accounts.len(), ACCOUNTS);
    let balance = |value: &[u8]| std::str::from_utf8(value).unwrap().parse::<u64>().unwrap();
    accounts.iter().map(|account| balance(&account.value)).sum()
}
