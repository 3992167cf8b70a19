//! What counts as the start of a stream, room by room.

use super::{
    sources::{loaded, mistakes},
    *,
};

#[test]
fn a_rooms_rule_is_that_of_the_longest_prefix_and_takes_the_rest_from_the_general_one() {
    let config = loaded(&dev("[rooms.first_rtp]\npackets = 2\n\
         [[rooms.first_rtp_by_room]]\nprefix = 'call-'\nboth_sides = true\n\
         [[rooms.first_rtp_by_room]]\nprefix = 'call-vip-'\npackets = 5\nmin_level_dbov = -50"));
    let general = FirstRtpConfig {
        packets: 2,
        ..FirstRtpConfig::default()
    };
    let calls = FirstRtpConfig {
        both_sides: true,
        ..general
    };
    let vip = FirstRtpConfig {
        packets: 5,
        min_level_dbov: Some(-50),
        ..general
    };
    for (room, rule) in [
        ("lobby", general),
        ("call-1", calls),
        ("call-vip-1", vip),
        ("a call-1", general),
    ] {
        assert_eq!(config.rooms.first_rtp_in(room), rule, "{room}");
    }
}

#[test]
fn a_rule_for_rooms_names_the_rooms() {
    let mistakes = mistakes(&dev("[[rooms.first_rtp_by_room]]\npackets = 0"));
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(mistakes[0].contains("rooms.first_rtp_by_room[0].prefix"));
    assert!(mistakes[1].contains("from 1 to 1000"));
}
