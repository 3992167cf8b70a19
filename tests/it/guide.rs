//! The guides, done by the letter: their files are written, their commands are run in their
//! order, and what they show is what comes out.

mod billing;

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const GUIDE: &str = include_str!("../../plugin-sdk/GUIDE.md");

/// One generous limit for each command: the first builds the SDK.
const LIMIT: Duration = Duration::from_secs(600);

/// A fenced block that says what it is.
#[derive(Debug, PartialEq)]
enum Block {
    /// Commands, and the exit code of the last one.
    Commands { text: String, status: i32 },
    /// A command that goes on beside what follows.
    Background(String),
    /// A file, in the folder that the commands have come to.
    File { name: String, text: String },
    /// What the last commands have printed.
    Output(String),
}

fn blocks(guide: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let mut text = String::new();
        for line in lines.by_ref().take_while(|line| *line != "```") {
            writeln!(text, "{line}").unwrap();
        }
        let mut words = info.split(' ');
        let language = words.next().unwrap_or_default();
        let attribute = words.next().unwrap_or_default();
        blocks.push(match (language, attribute.split_once('=')) {
            (_, Some(("file", name))) => Block::File {
                name: name.to_owned(),
                text,
            },
            ("sh", Some(("status", status))) => Block::Commands {
                text,
                status: status.parse().expect("an exit code"),
            },
            ("sh", None) if attribute == "background" => Block::Background(text),
            ("sh", None) if attribute.is_empty() => Block::Commands { text, status: 0 },
            ("text", None) => Block::Output(text),
            _ => panic!("a block of the guide that is not tested: ```{info}"),
        });
    }
    blocks
}

/// Does what the reader does.
struct Reader {
    dir: PathBuf,
    /// Folder and variables, as one block leaves them to the next.
    session: PathBuf,
    port: u16,
    /// Where the reader's own server of HTTP is.
    other_port: u16,
    output: String,
    background: Vec<Child>,
}

impl Reader {
    fn new(home: &Path) -> Self {
        let dir = home.join("work");
        fs::create_dir(&dir).unwrap();
        // Both at once, lest they are the same.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, other_port] = free.map(|free| free.local_addr().unwrap().port());
        Self {
            session: home.join("session"),
            port,
            other_port,
            output: String::new(),
            background: Vec::new(),
            dir,
        }
    }

    fn text(&self, text: &str) -> String {
        text.replace("127.0.0.1:3000", &format!("127.0.0.1:{}", self.port))
            .replace("127.0.0.1:8080", &format!("127.0.0.1:{}", self.other_port))
            .replace("PORT=8080", &format!("PORT={}", self.other_port))
    }

    fn bash(&self, script: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_voice-room"));
        let programs = program.parent().unwrap().display();
        let mut bash = Command::new("bash");
        bash.args(["-c", &format!("PATH={programs}:$PATH\n{script}")])
            .current_dir(&self.dir)
            .env(
                "VOICE_ROOM_SERVER__LISTEN",
                format!("127.0.0.1:{}", self.port),
            )
            // The reader has only what is in the project.
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("CARGO_BUILD_TARGET")
            .stdin(Stdio::null());
        bash
    }

    fn run(&mut self, commands: &str, status: i32) {
        let (log, session) = (self.dir.join("../output"), self.session.display());
        // A default that the guide names where the test needs another: the server's address.
        let script = format!(
            "set -eu -o pipefail; [ ! -e {session} ] || . {session}\n\
             trap 'code=$?; {{ declare -px; echo \"cd $PWD\"; }} > {session}; exit $code' EXIT\n\
             voice-room() {{ case \"$*\" in *' list'*|*' reload'*|'outbox '*|'ledger '*) \
             command voice-room \"$@\" --url http://127.0.0.1:{} ;; \
             *) command voice-room \"$@\" ;; esac; }}\n{}",
            self.port,
            self.text(commands)
        );
        let output = fs::File::create(&log).unwrap();
        let mut child = self
            .bash(&script)
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let ended = wait(&mut child);
        self.output = fs::read_to_string(&log).unwrap();
        assert_eq!(ended, Some(status), "{commands}\n{}", self.output);
        let session = fs::read_to_string(&self.session).unwrap();
        let dir = session
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("cd "));
        self.dir = PathBuf::from(dir.expect("a folder"));
    }

    fn follow(&mut self, block: Block) {
        match block {
            Block::Commands { text, status } => self.run(&text, status),
            Block::Background(text) => self.start(text.trim_end()),
            Block::File { name, text } => {
                let mut file = fs::File::create(self.dir.join(name)).unwrap();
                file.write_all(self.text(&text).as_bytes()).unwrap();
            }
            Block::Output(text) => {
                assert!(self.output.ends_with(&text), "{}", self.output);
            }
        }
    }

    fn start(&mut self, command: &str) {
        // Variables before the command are its own.
        let script = format!(
            "[ ! -e {session} ] || . {session}; exec env {}",
            self.text(command),
            session = self.session.display()
        );
        let mut child = self.bash(&script).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        self.background.push(child);
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(stdout);
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        assert!(line.contains("ready"), "{line}");
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for child in &mut self.background {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn wait(child: &mut Child) -> Option<i32> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if began.elapsed() > LIMIT {
            drop(child.kill());
            return None;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn the_guide_does_what_it_says() {
    let home = tempfile::tempdir().unwrap();
    let mut reader = Reader::new(home.path());
    for block in blocks(GUIDE) {
        reader.follow(block);
    }
}

#[test]
fn blocks_are_told_apart_by_what_they_say() {
    let guide = "a\n```sh\nls\n```\n```sh status=1\nx\n```\n```js file=a.mjs\ny\n```\n";
    assert_eq!(
        blocks(guide),
        [
            Block::Commands {
                text: "ls\n".to_owned(),
                status: 0
            },
            Block::Commands {
                text: "x\n".to_owned(),
                status: 1
            },
            Block::File {
                name: "a.mjs".to_owned(),
                text: "y\n".to_owned()
            },
        ]
    );
}
