//! Reliable taking beside Go's consumers: what we have taken is out of their sight until it comes
//! back.

use synod_tests::beside_go;
use synod_tests::go::Beside;
use synod_tests::wait;

beside_go! {
    async fn what_we_took_is_out_of_gos_sight_until_it_comes_back(beside: Beside) {
        let (go, queue) = (beside.go(), beside.client().await.queue("q"));
        go.ok(&["queue.push", "q", "1"]).await;
        let delivery = wait::soon("a delivery", queue.take()).await.unwrap();
        assert_eq!((delivery.value().as_ref(), delivery.attempt()), (&b"1"[..], 1));
        let mut theirs = go.begin(&["queue.pop", "q"]);
        theirs.assert_waits().await;
        delivery.nack().await.unwrap();
        assert_eq!(theirs.ok().await, "1");

        go.ok(&["queue.push", "q", "2"]).await;
        let delivery = wait::soon("a delivery", queue.take()).await.unwrap();
        delivery.ack().await.unwrap();
        let mut theirs = go.begin(&["queue.pop", "q"]);
        theirs.assert_waits().await;
        go.ok(&["queue.push", "q", "3"]).await;
        assert_eq!(theirs.ok().await, "3");
    }

    /// A priority queue's item comes back to its place.
    async fn a_priority_keeps_its_order(beside: Beside) {
        let (go, queue) = (beside.go(), beside.client().await.priority_queue("q"));
        for (value, priority) in [("1", "5"), ("2", "5"), ("3", "9")] {
            go.ok(&["pq.push", "q", value, priority]).await;
        }
        let delivery = wait::soon("a delivery", queue.take()).await.unwrap();
        assert_eq!(delivery.value(), "1");
        delivery.nack().await.unwrap();
        for value in ["1", "2"] {
            assert_eq!(go.ok(&["pq.pop", "q"]).await, value);
        }
        let delivery = wait::soon("a delivery", queue.take()).await.unwrap();
        assert_eq!(delivery.value(), "3");
        let mut theirs = go.begin(&["pq.pop", "q"]);
        theirs.assert_waits().await;
        delivery.nack().await.unwrap();
        assert_eq!(theirs.ok().await, "3");
    }
}
