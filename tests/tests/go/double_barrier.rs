//! The double barrier: Go's members and ours enter together and leave together, with
//! `go_compatible`. Each name is used once: Go's recipe may hang when one is used again.

use synod::Error;
use synod_tests::beside_go;
use synod_tests::go::{Beside, waits};
use synod_tests::wait;

use crate::common::{TTL, until_keys};

beside_go! {
    async fn we_enter_last_and_leave_first(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.session("s", TTL).await;
        let barrier = client.double_barrier("d", 2).go_compatible();
        let mut theirs = go.begin(&["double.enter", "s", "d", "2"]);
        theirs.assert_waits().await;
        wait::soon("we enter", barrier.enter()).await.unwrap();
        theirs.ok().await;
        let ours = waits("leave", async move { barrier.leave().await }).await;
        go.ok(&["double.leave", "s", "d"]).await;
        wait::soon("we leave", ours).await.unwrap().unwrap();
    }

    async fn go_enters_last_and_leaves_first(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.session("s", TTL).await;
        let barrier = client.double_barrier("d", 2).go_compatible();
        let entering = async move { barrier.enter().await.map(|()| barrier) };
        let ours = waits("enter", entering).await;
        go.ok(&["double.enter", "s", "d", "2"]).await;
        let barrier = wait::soon("we enter", ours).await.unwrap().unwrap();
        let mut theirs = go.begin(&["double.leave", "s", "d"]);
        theirs.assert_waits().await;
        wait::soon("we leave", barrier.leave()).await.unwrap();
        theirs.ok().await;
    }

    async fn three_of_each_at_once(beside: Beside) {
        const COUNT: u32 = 6;
        let count = COUNT.to_string();
        let go = beside.go();
        let mut members = Vec::new();
        for _ in 0..3 {
            let barrier = beside.client().await.double_barrier("d", COUNT).go_compatible();
            members.push(barrier);
        }
        let mut theirs = Vec::new();
        for name in ["a", "b", "c"] {
            go.session(name, TTL).await;
            theirs.push(go.begin(&["double.enter", name, "d", &count]));
        }
        let last = members.pop().unwrap();
        let mut ours = Vec::new();
        for member in members {
            ours.push(waits("enter", async move { member.enter().await.map(|()| member) }).await);
        }
        for call in &mut theirs {
            call.assert_waits().await;
        }
        wait::soon("the last enters", last.enter()).await.unwrap();
        for call in theirs {
            call.ok().await;
        }
        let mut entered = vec![last];
        for member in ours {
            entered.push(wait::soon("we enter", member).await.unwrap().unwrap());
        }
        let mut leaving = Vec::new();
        for member in entered {
            leaving.push(waits("leave", async move { member.leave().await }).await);
        }
        let calls = ["a", "b", "c"].map(|name| go.begin(&["double.leave", name, "d"]));
        for call in calls {
            call.ok().await;
        }
        for member in leaving {
            wait::soon("we leave", member).await.unwrap().unwrap();
        }
    }

    async fn one_too_many_is_refused_and_changes_nothing(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.session("s", TTL).await;
        let barrier = client.double_barrier("d", 2).go_compatible();
        let theirs = go.begin(&["double.enter", "s", "d", "2"]);
        wait::soon("we enter", barrier.enter()).await.unwrap();
        theirs.ok().await;
        let surplus = beside.client().await;
        let surplus = surplus.double_barrier("d", 2).go_compatible();
        let refused = wait::soon("an answer", surplus.enter()).await;
        assert!(matches!(refused, Err(Error::TooManyParticipants { .. })), "{refused:?}");
        let theirs = go.begin(&["double.leave", "s", "d"]);
        wait::soon("we leave", barrier.leave()).await.unwrap();
        theirs.ok().await;
    }

    async fn go_leaves_when_our_client_is_gone(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.session("s", TTL).await;
        let barrier = client.double_barrier("d", 2).go_compatible();
        let theirs = go.begin(&["double.enter", "s", "d", "2"]);
        wait::soon("we enter", barrier.enter()).await.unwrap();
        theirs.ok().await;
        let mut theirs = go.begin(&["double.leave", "s", "d"]);
        theirs.assert_waits().await;
        client.close().await.unwrap();
        theirs.ok().await;
    }

    async fn we_leave_when_a_go_program_is_dead(beside: Beside) {
        let (mut go, client) = (beside.go(), beside.client().await);
        go.session("s", wait::BRIEF).await;
        let barrier = client.double_barrier("d", 2).go_compatible();
        let theirs = go.begin(&["double.enter", "s", "d", "2"]);
        wait::soon("we enter", barrier.enter()).await.unwrap();
        theirs.ok().await;
        go.kill();
        wait::soon("we leave", barrier.leave()).await.unwrap();
    }

    async fn a_go_member_under_our_own_layout_is_told(beside: Beside) {
        let (go, client) = (beside.go(), beside.client().await);
        go.session("s", TTL).await;
        let mut theirs = go.begin(&["double.enter", "s", "d", "2"]);
        until_keys(&client, "d/", 1).await;
        theirs.assert_waits().await;
        let error = wait::soon("an answer", client.double_barrier("d", 2).enter()).await;
        let error = error.err().unwrap();
        assert!(matches!(&error, Error::GoLayout { .. }), "{error:?}");
        assert!(error.to_string().contains("go_compatible"), "{error}");
    }
}
