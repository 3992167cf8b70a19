//! The plugin host with real components: the fixture guest, told to behave in every way,
//! and the plugins of the product.

use voice_room::plugin::Fact;

mod rig;

use rig::{Rig, fixture};

#[tokio::test]
async fn a_plugin_is_asked_and_allows() {
    let rig = Rig::new(&[fixture(&serde_json::json!({}))]).await;
    assert_eq!(rig.host.before_produce(rig::produce("a", 1)).await, Ok(()));
    rig.host.notify(Fact::Joined(rig::join("a", 1)));
    assert_eq!(rig.history("a").await, ["on-join 1"]);
}
