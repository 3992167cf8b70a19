//! An HTTP receiver that answers as a test wants.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
    serve::Listener,
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::LIMIT;

/// What a request was.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) entry: Value,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(crate) fn room(&self) -> &str {
        self.entry["room"].as_str().unwrap()
    }
}

/// What a receiver does with a request.
pub(crate) enum Reply {
    Status(u16),
    /// With a header and a body.
    Told(u16, &'static str, String, Vec<u8>),
    /// None, for as long as the client waits.
    Silence,
}

type Behaviour = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

pub(crate) struct Receiver {
    scheme: &'static str,
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    requests: watch::Sender<Vec<Request>>,
    under_way: Mutex<Vec<String>>,
    /// Most requests that were there at once.
    most: Mutex<usize>,
}

impl Receiver {
    pub(crate) async fn open(
        behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::open_at("127.0.0.1:0".parse().unwrap(), behaviour).await
    }

    pub(crate) async fn open_at(
        address: SocketAddr,
        behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self::open_on(listener, "http", behaviour)
    }

    /// Over whatever the listener makes of a connection.
    pub(crate) fn open_on(
        listener: impl Listener<Addr = SocketAddr>,
        scheme: &'static str,
        behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Box::new(behaviour)),
            requests: watch::Sender::new(Vec::new()),
            under_way: Mutex::default(),
            most: Mutex::default(),
        });
        let app = Router::new()
            .route("/events", post(receive))
            .with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            scheme,
            address,
            shared,
            serving,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/events", self.scheme, self.address)
    }

    pub(crate) fn behaves(&self, behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *self.shared.behaviour.lock() = Box::new(behaviour);
    }

    /// All requests so far, when they are as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&[Request]) -> bool) -> Vec<Request> {
        let mut requests = self.shared.requests.subscribe();
        let seen = tokio::time::timeout(LIMIT, requests.wait_for(|all| wanted(all))).await;
        match seen {
            Ok(all) => all.unwrap().clone(),
            Err(_) => panic!("got {:?}", self.shared.requests.borrow()),
        }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.borrow().clone()
    }

    pub(crate) fn most_at_once(&self) -> usize {
        *self.shared.most.lock()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let body = String::from_utf8(body.to_vec()).unwrap();
    let request = Request {
        entry: serde_json::from_str(&body).unwrap(),
        headers,
        body,
    };
    let _here = Here::new(&shared, request.room());
    // So that others can come meanwhile.
    tokio::task::yield_now().await;
    let reply = (shared.behaviour.lock())(&request);
    shared.requests.send_modify(|all| all.push(request));
    match reply {
        Reply::Status(code) => StatusCode::from_u16(code).unwrap().into_response(),
        Reply::Told(code, name, value, body) => {
            let code = StatusCode::from_u16(code).unwrap();
            (code, [(name, value)], body).into_response()
        }
        Reply::Silence => std::future::pending().await,
    }
}

/// A request that is under way.
struct Here {
    shared: Arc<Shared>,
    room: String,
}

impl Here {
    fn new(shared: &Arc<Shared>, room: &str) -> Self {
        let mut under_way = shared.under_way.lock();
        assert!(
            !under_way.iter().any(|one| one == room),
            "two of the room {room} at once"
        );
        under_way.push(room.to_owned());
        let mut most = shared.most.lock();
        *most = under_way.len().max(*most);
        Self {
            shared: Arc::clone(shared),
            room: room.to_owned(),
        }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.shared.under_way.lock().retain(|one| *one != self.room);
    }
}
