//! A ledger that loses its first entries while somebody reads it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Router, extract::Request};
use tokio::net::TcpListener;
use voice_room::config::{LedgerConfig, SinkConfig};

use super::{Api, LIMIT, cut_up_to, publish};

#[tokio::test]
async fn a_ledger_that_is_cut_while_it_is_verified_is_verified_from_its_new_beginning() {
    let keep = LedgerConfig {
        entries: 2,
        ..LedgerConfig::default()
    };
    let api = Api::open(&keep, &[SinkConfig::published()]).await;
    api.publish(0..4).await;
    cut_up_to(&api.store, 2).await;
    // A way to the server on which the first question for entries takes so long that they are
    // gone.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let slow = Arc::new(AtomicBool::new(true));
    let (store, client, server) = (api.store.clone(), api.client.clone(), api.url.clone());
    let app = Router::new().fallback(async move |request: Request| {
        let mut asked = client.get(format!("{server}{}", request.uri()));
        for (name, value) in request.headers() {
            asked = asked.header(name, value);
        }
        let lines = request.headers()["accept"] == "application/x-ndjson";
        if lines && slow.swap(false, Ordering::SeqCst) {
            (4..8).for_each(|n| publish(&store, n));
            store.flush(LIMIT).await.unwrap();
            cut_up_to(&store, 6).await;
        }
        let answer = asked.send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap())
    });
    let way = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let (code, out, problem) = api.run_at(&url, &["ledger", "verify"]).await;
    way.abort();
    assert_eq!(code, Some(0), "{problem}");
    assert!(out.contains("2 entries, 7 to 8, without a gap"), "{out}");
}
