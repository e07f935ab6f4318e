//! A session with a program that answers line by line: a database's own client, or a child of ours.

use std::io::{BufRead, BufReader, PipeReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A session. Its program is killed with it.
pub(crate) struct Session {
    child: Child,
    stdin: ChildStdin,
    output: BufReader<PipeReader>,
    /// What makes the program print a word of ours.
    echo: fn(&str) -> String,
    asked: u32,
}

impl Session {
    pub(crate) fn start(command: &mut Command, echo: fn(&str) -> String) -> Session {
        let (output, into) = std::io::pipe().expect("a pipe");
        command.stdin(Stdio::piped()).stdout(into.try_clone().expect("a pipe")).stderr(into);
        let mut child = command.spawn().expect("the client starts");
        // Only the child may keep the pipe open, so that its end is seen.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let stdin = child.stdin.take().expect("a pipe");
        Session { child, stdin, output: BufReader::new(output), echo, asked: 0 }
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Everything that it prints on account of this.
    pub(crate) fn ask(&mut self, words: &str) -> String {
        self.asked += 1;
        let mark = format!("answered-{}", self.asked);
        writeln!(self.stdin, "{words}\n{}", (self.echo)(&mark)).expect("it reads");
        self.stdin.flush().expect("it reads");
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let n = self.output.read_line(&mut line).expect("it speaks");
            assert!(n > 0, "it ended: {said}");
            if line.trim_end() == mark {
                return said.trim().to_owned();
            }
            said += &line;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
