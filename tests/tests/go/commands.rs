//! The command `synod` beside Go programs: what is typed at a shell meets what Go does.

use synod_tests::beside_go;
use synod_tests::cli::{Home, finish};
use synod_tests::go::{Beside, waits};
use synod_tests::wait;

beside_go! {
    async fn the_queue(beside: Beside) {
        let (go, home, url) = (beside.go(), Home::new(), beside.url());
        go.ok(&["queue.push", "q", "from Go"]).await;
        let pop = ["queue", "pop", "--name", "q", "--addr", &url];
        assert_eq!(home.ok(&pop).await, "from Go\n");
        home.ok(&["queue", "push", "from a shell", "--name", "q", "--addr", &url]).await;
        assert_eq!(go.ok(&["queue.pop", "q"]).await, "from a shell");
    }

    async fn the_barrier(beside: Beside) {
        let (go, home, url) = (beside.go(), Home::new(), beside.url());
        let at = ["--name", "b", "--addr", &url];
        let barrier = |words: &[&'static str]| [&["barrier"], words, &at[..]].concat();
        home.ok(&barrier(&["hold"])).await;
        // Something that keeps an old Go client from seeing the hold.
        home.ok(&["queue", "push", "x", "--addr", &url]).await;
        let mut theirs = go.begin(&["barrier.wait", "b"]);
        theirs.assert_waits().await;
        home.ok(&barrier(&["--go", "release"])).await;
        theirs.ok().await;

        go.ok(&["barrier.hold", "b"]).await;
        let mut ours = home.command(&barrier(&["wait"]));
        let ours = waits("synod", async move { finish(&mut ours, b"").await }).await;
        go.ok(&["barrier.release", "b"]).await;
        let ran = wait::soon("the command ends", ours).await.unwrap();
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }

    async fn the_double_barrier(beside: Beside) {
        let (go, home, url) = (beside.go(), Home::new(), beside.url());
        go.session("s", crate::common::TTL).await;
        let at = ["--name", "d", "--addr", &url, "--", "echo", "inside"];
        let member = [&["double-barrier", "-c", "2", "--go"], &at[..]].concat();
        let mut theirs = go.begin(&["double.enter", "s", "d", "2"]);
        theirs.assert_waits().await;
        let mut ours = home.command(&member);
        let ours = tokio::spawn(async move { finish(&mut ours, b"").await });
        theirs.ok().await;
        go.ok(&["double.leave", "s", "d"]).await;
        let ran = wait::soon("the command ends", ours).await.unwrap();
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "inside\n"), "{ran:?}");
    }

    async fn the_lock(beside: Beside) {
        let (go, home, url) = (beside.go(), Home::new(), beside.url());
        go.session("s", crate::common::TTL).await;
        go.ok(&["mutex.lock", "s", "m"]).await;
        let lock = ["lock", "m", "--addr", &url, "--try", "--", "echo", "inside"];
        let ran = home.run(&lock).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""), "{ran:?}");
        go.ok(&["mutex.unlock", "s", "m"]).await;
        assert_eq!(home.ok(&lock).await, "inside\n");
        go.ok(&["mutex.lock", "s", "m"]).await;
    }

    async fn the_election(beside: Beside) {
        let (go, home, url) = (beside.go(), Home::new(), beside.url());
        go.session("s", crate::common::TTL).await;
        let mut seen = go.begin(&["election.observe", "s", "e"]);
        let mut leader = home.start(&["elect", "e", "a shell", "--addr", &url]);
        assert_eq!(seen.event().await[1], "a shell");
        let mut theirs = go.begin(&["election.campaign", "s", "e", "Go"]);
        theirs.assert_waits().await;
        leader.terminate();
        theirs.ok().await;
        assert_eq!(seen.event().await[1], "Go");
        leader.wait(wait::PATIENCE).await;
    }
}
