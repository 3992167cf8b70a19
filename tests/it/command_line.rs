//! The program from outside: output and exit codes of its command line.

use std::{
    net::TcpListener,
    process::{Command, Output},
};

fn voice_room(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_voice-room"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn config_prints_what_the_server_would_run_with() {
    let output = voice_room(
        &["config", "--dev", "--listen", "127.0.0.1:4000"],
        &[("VOICE_ROOM_MEDIA__WORKERS", "3")],
    );

    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("listen = \"127.0.0.1:4000\" # --listen"),
        "{text}"
    );
    assert!(
        text.contains("workers = 3 # VOICE_ROOM_MEDIA__WORKERS"),
        "{text}"
    );
}

#[test]
fn mistakes_in_the_configuration_end_with_code_2_and_are_all_told() {
    for command in ["serve", "config"] {
        let output = voice_room(
            &[command],
            &[
                ("VOICE_ROOM_AUTH__SECRET", "hunter2"),
                ("VOICE_ROOM_ROOMS__MAX", "3"),
            ],
        );

        assert_eq!(output.status.code(), Some(2), "{command}");
        assert_eq!(stdout(&output), "");
        let text = stderr(&output);
        for key in [
            "auth.secret",
            "media.announced_address",
            "VOICE_ROOM_ROOMS__MAX",
        ] {
            assert!(text.contains(key), "{key} is not in {text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_file_that_is_not_there_ends_with_code_2() {
    let output = voice_room(&["serve", "--dev", "--config", "no/such/file.toml"], &[]);

    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(
        text.contains("--config = no/such/file.toml: cannot be read"),
        "{text}"
    );
}

#[test]
fn an_address_that_is_taken_ends_with_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();

    let output = voice_room(&["serve", "--dev", "--listen", &address], &[]);

    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains(&format!("cannot listen on {address}")),
        "{text}"
    );
    assert!(text.contains("development mode"), "{text}");
}
