//! The barrier against a store that loses answers and whose watches fall.

use std::time::Duration;

use crate::testing::{Faulty, engine};
use crate::{Client, Error};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn it_is_held_and_released() {
    for client in [Client::from_store(engine()), Faulty::new().client(LONG)] {
        let barrier = client.barrier("b");
        barrier.wait().await.unwrap();
        barrier.hold().await.unwrap();
        let error = client.barrier("b").hold().await.unwrap_err();
        let pid = std::process::id().to_string();
        assert!(
            matches!(&error, Error::Held { holder: Some(holder), .. } if holder.ends_with(&pid)),
            "{error}"
        );
        assert!(
            !barrier
                .wait_timeout(Duration::from_millis(20))
                .await
                .unwrap()
        );
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                let barrier = client.barrier("b");
                tokio::spawn(async move { barrier.wait().await })
            })
            .collect();
        assert!(barrier.release().await.unwrap());
        for waiter in waiters {
            waiter.await.unwrap().unwrap();
        }
        assert!(!barrier.release().await.unwrap());
        assert!(!barrier.is_held().await.unwrap());
    }
}
