//! As a service of `Type=notify`: a datagram socket plays the service manager, which goes by the process that sends.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Signal;

use crate::support::{Guarded, Place, TENURE, kill, state, until};
use crate::terminal::Terminal;

/// What the manager gets.
struct Message {
    text: String,
    pid: i32,
    files: Vec<OwnedFd>,
}

struct Manager(UnixDatagram);

impl Manager {
    fn new(address: &SocketAddr) -> Manager {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        rustix::net::sockopt::set_socket_passcred(&socket, true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Manager(socket)
    }

    /// At a path in the test's directory; returns what `NOTIFY_SOCKET` says.
    fn at_a_path(place: &Place) -> (Manager, String) {
        let path = place.file("notify");
        (Manager::new(&SocketAddr::from_pathname(&path).unwrap()), path.display().to_string())
    }

    fn next(&self) -> Message {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let got = recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        let (mut pid, mut files) = (0, Vec::new());
        for part in control.drain() {
            match part {
                RecvAncillaryMessage::ScmRights(more) => files.extend(more),
                RecvAncillaryMessage::ScmCredentials(sender) => pid = sender.pid.as_raw_nonzero().get(),
                _ => {}
            }
        }
        Message { text: String::from_utf8(bytes[..got.bytes].to_vec()).unwrap(), pid, files }
    }
}

/// `notify(TEXT, FD...)` as sd_pid_notify_with_fds(3) does it; `@` stands for the NUL of an abstract name.
const NOTIFY: &str = "\
import array, os, signal, socket, time
def notify(text, *fds):
    address = os.environ['NOTIFY_SOCKET']
    address = '\\0' + address[1:] if address[0] == '@' else address
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s: s.sendmsg([text.encode()], control, 0, address)
";

/// Also if it is sent by a child of the command, in the last moment before the command ends.
fn serves(place: &Place, manager: &Manager, address: &str) {
    let script = format!(
        "{NOTIFY}
r, w = os.pipe()
notify('READY=1\\nMAINPID=%d' % os.getpid())
notify('FDSTORE=1\\nFDNAME=pipe', r)
notify('MAINPID=1')
os.write(w, b'kept')
if os.fork() == 0:
    notify('STATUS=from a child')
    os._exit(0)
os.wait()
notify('STOPPING=1')
os._exit(7)"
    );
    let mut command = place.tenure(&["run", "x", "--", "python3", "-c", &script]);
    let mut child = Guarded(command.env("NOTIFY_SOCKET", address).spawn().unwrap());
    let (mut texts, mut files) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let message = manager.next();
        assert_eq!(message.pid.unsigned_abs(), child.0.id(), "{}", message.text);
        texts.push(message.text);
        files.extend(message.files);
    }
    assert_eq!(texts, ["READY=1", "FDSTORE=1\nFDNAME=pipe", "STATUS=from a child", "STOPPING=1"]);
    assert_eq!(until("the end", || child.0.try_wait().unwrap()).code(), Some(7));
    let mut content = String::new();
    std::fs::File::from(files.remove(0)).read_to_string(&mut content).unwrap();
    assert_eq!((content.as_str(), files.len()), ("kept", 0));
}

#[test]
fn the_service_manager_hears_the_command_as_the_main_process() {
    let place = Place::new();
    let (manager, address) = Manager::at_a_path(&place);
    serves(&place, &manager, &address);
    let name = format!("tenure-test/{}/main", std::process::id());
    let manager = Manager::new(&SocketAddr::from_abstract_name(&name).unwrap());
    serves(&place, &manager, &format!("@{name}"));
}

#[test]
fn the_service_manager_hears_a_command_on_a_terminal() {
    let place = Place::new();
    let (manager, address) = Manager::at_a_path(&place);
    std::fs::write(place.file("ready.py"), format!("{NOTIFY}notify('READY=1')\nprint('sent')")).unwrap();
    let script = format!(
        "export NOTIFY_SOCKET={address}; sh -c 'echo pid=$$.; exec $T run x -- python3 ready.py'; echo status=$?"
    );
    let mut terminal = Terminal::shell(&place, &script);
    terminal.expect("pid=");
    let pid = terminal.expect(".");
    let message = manager.next();
    assert_eq!((message.text.as_str(), message.pid.to_string() + "."), ("READY=1", pid));
    terminal.expect("sent");
    terminal.expect("status=0");
    assert_eq!(terminal.finish().1, Some(0));
}

/// One `tenure run` below another, as a service manager starts it through a script.
#[test]
fn messages_pass_through_several_runs() {
    let place = Place::new();
    let (manager, address) = Manager::at_a_path(&place);
    let script = format!("{NOTIFY}notify('READY=1')");
    let args = ["run", "x", "--", TENURE, "run", "y", "--", "python3", "-c", &script];
    let mut child = Guarded(place.tenure(&args).env("NOTIFY_SOCKET", address).spawn().unwrap());
    let message = manager.next();
    assert_eq!((message.text.as_str(), message.pid.unsigned_abs()), ("READY=1", child.0.id()));
    assert_eq!(until("the end", || child.0.try_wait().unwrap()).code(), Some(0));
}

/// A manager that does not read delays messages, but neither signals nor the end.
#[test]
fn a_service_manager_that_does_not_read_delays_nothing_else() {
    let place = Place::new();
    let (manager, address) = Manager::at_a_path(&place);
    let script = format!(
        "{NOTIFY}
signal.signal(signal.SIGTERM, lambda *_: os._exit(5))
open('pid', 'w').write('%d\\n' % os.getpid())
while True: notify('WATCHDOG=1')"
    );
    let mut command = place.tenure(&["run", "x", "--", "python3", "-c", &script]);
    let mut child = Guarded(command.env("NOTIFY_SOCKET", address).spawn().unwrap());
    let command = place.pid_of("pid");
    // It sleeps in nothing but its call, once both sockets are full.
    until("the command is held up", || (state(command) == Some('S')).then_some(()));
    kill(i32::try_from(child.0.id()).unwrap(), Signal::TERM);
    assert_eq!(until("the end", || child.0.try_wait().unwrap()).code(), Some(5));
    assert_eq!(manager.next().text, "WATCHDOG=1");
}

/// `tenure run` exits with the command. What the command leaves behind keeps the lock, and must not fill a socket that
/// nobody reads any more.
#[test]
fn messages_of_what_is_left_behind_fail_at_once() {
    let place = Place::new();
    let (_manager, address) = Manager::at_a_path(&place);
    let script = format!(
        "{NOTIFY}
if os.fork() == 0:
    [os.close(fd) for fd in range(3)]
    try:
        while not os.path.exists('gone'): time.sleep(0.01)
        while True: notify('STATUS=x')
    except ConnectionRefusedError: open('refused', 'w').write('yes\\n')"
    );
    let mut command = place.tenure(&["run", "x", "--", "python3", "-c", &script]);
    assert_eq!(command.env("NOTIFY_SOCKET", address).status().unwrap().code(), Some(0));
    std::fs::write(place.file("gone"), "").unwrap();
    assert_eq!(place.line_of("refused"), "yes");
}

/// What is no Unix socket, or does not listen, is the command's to find out.
#[test]
fn what_cannot_be_relayed_is_left_as_it_is() {
    let place = Place::new();
    for address in ["vsock:2:1234", "/nowhere/notify", ""] {
        let script = format!("[ \"$NOTIFY_SOCKET\" = '{address}' ]");
        let mut command = place.tenure(&["run", "x", "--", "sh", "-c", &script]);
        assert_eq!(command.env("NOTIFY_SOCKET", address).status().unwrap().code(), Some(0), "{address}");
    }
    let mut command = place.tenure(&["run", "x", "--", "sh", "-c", "[ -z \"${NOTIFY_SOCKET+x}\" ]"]);
    assert_eq!(command.env_remove("NOTIFY_SOCKET").status().unwrap().code(), Some(0));
}
