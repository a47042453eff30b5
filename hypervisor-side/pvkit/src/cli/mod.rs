//! The command line: words as in cloud-hypervisor and kvmtool. Parsing only; nothing is opened here.

mod console;
mod disk;
mod mac;
mod net;
mod publish;
mod served;
mod size;
mod version;

pub use crate::api::Verb;
pub use console::ConsoleOption;
pub use disk::{Cache, DiskFormat, DiskOption};
pub use mac::Mac;
pub use net::{NetKind, NetOption};
pub use publish::PublishOption;
pub use served::{ServedKind, ServedNet};
pub use size::Size;
pub use version::long_version;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// What stands below every help text.
const AFTER_HELP: &str = "\
Exit status:
  the guest's own; 101 when it crashes; 128 + n when signal n ended pvkit;
  2 for a mistake on the command line or in a file it names; 1 when the run fails

Signals:
  SIGINT and SIGTERM ask a guest whose services run to shut down, and end the run after ten seconds, at a second signal,
  or at once if there are no services; SIGUSR1 has it look again how large its disk images are, and tell the guest

Examples:
  pvkit demo --stay
  pvkit run --kernel guest.elf --memory 512M --disk path=disk.img,readonly=on --disk log.img
  pvkit run --kernel guest.elf --net user --publish 127.0.0.1:8080:80
  pvkit run --kernel guest.elf --api-socket /tmp/g.sock        then: pvkit inspect /tmp/g.sock
  pvkit run --kernel vmlinuz --initramfs initrd.img --cmdline console=ttyS0 --memory 1G --cpus 2";

/// The keys of the console, shown by `pvkit run --help` and by Ctrl-a h.
pub const CONSOLE_KEYS: &str = "\
Ctrl-a x  leaves pvkit         Ctrl-a Ctrl-a  sends Ctrl-a to the guest
Ctrl-a h  shows these keys     Ctrl-a c       sends Ctrl-c to the guest (Ctrl-c itself leaves pvkit)";

/// Below the help of `pvkit backend`.
const BACKEND_HELP: &str = "\
Example:
  pvkit backend --socket /run/pvkit/disks.sock --disk id=root,path=root.img
  pvkit run --kernel guest.elf --disk backend=/run/pvkit/disks.sock,id=root
  pvkit backend --socket s --net tap,id=lan         then: pvkit run --kernel guest.elf --net backend=s,id=lan,tap=pv0

A service manager starts it with its socket (ListenSequentialPacket=) and is told when it is ready (Type=notify); see
hypervisor-side/pvkit/systemd.

SIGTERM and SIGINT end it in good order: queues are drained, guests wait for the next backend at the same socket. A backend
that is killed loses nothing either.";

/// Where completions go.
const COMPLETIONS_HELP: &str = "\
bash:  pvkit completions bash > ~/.local/share/bash-completion/completions/pvkit
zsh:   pvkit completions zsh > a folder of $fpath, as _pvkit
fish:  pvkit completions fish > ~/.config/fish/completions/pvkit.fish";

/// Paravirtual guests on KVM: hypercalls, rings, block, network and console devices.
#[derive(Debug, Parser)]
#[command(name = "pvkit", version, long_version = long_version(), after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do; nothing: print the help.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot a guest image.
    Run(Box<RunOptions>),
    /// The main job: build the demo guest, read a disk of documents, survive being killed; verify everything.
    Demo(DemoOptions),
    /// Serve disks and networks to guests from a process of its own, which may be killed and started again.
    Backend(BackendOptions),
    /// Look at a running guest: bus, devices, queues, counters.
    Inspect(InspectOptions),
    /// Ask something of a running guest's kernel; status 1 if it refuses or does not answer.
    Ctl(CtlOptions),
    /// Look at what this machine has for guests, and say what to do about what it lacks; status 1 if they cannot run.
    Doctor(DoctorOptions),
    /// Print completions for a shell.
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsOptions),
    /// Write the demo's document disk to a file.
    #[command(hide = true)]
    DocumentDisk(DocumentDiskOptions),
    /// Run a program that must not outlive this process's parent.
    #[command(hide = true)]
    Guard(GuardOptions),
}

/// Which machine carries out the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MachineChoice {
    /// A virtual machine on /dev/kvm.
    Kvm,
    /// The demo application as a thread of this process; no KVM needed.
    InProcess,
}

/// How counters are shown at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatsFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// `pvkit run`.
#[derive(Args, Debug)]
#[command(after_help = CONSOLE_KEYS)]
pub struct RunOptions {
    /// What boots: an ELF image with a pvkit note (a PV guest), or a stock Linux kernel (bzImage, or ELF with a PVH note)
    #[arg(long, value_name = "IMAGE")]
    pub kernel: Option<PathBuf>,
    /// Initial file system of a stock kernel
    #[arg(long, value_name = "FILE")]
    pub initramfs: Option<PathBuf>,
    /// Command line handed to the guest
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub cmdline: String,
    /// Virtual CPUs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,
    /// Memory of the guest, with K, M, G or T
    #[arg(long, value_name = "SIZE", default_value = "256M", allow_hyphen_values = true)]
    pub memory: Size,
    /// A disk: a path, or path=FILE,format=raw|null|ram,readonly=on|off,cache=writeback|volatile,size=SIZE,
    /// block_size=512|4096,serial=TEXT, or backend=SOCKET,id=NAME for one of a `pvkit backend`; may be given several times
    #[arg(long = "disk", value_name = "DISK")]
    pub disks: Vec<DiskOption>,
    /// A network port: user, tap=NAME, fd=N, passt=SOCKET, backend=SOCKET,id=NAME (with tap=NAME where it is on one) or none;
    /// with mac=ADDRESS,mtu=BYTES,queues=PAIRS,
    /// offloads=on|off, and for user
    /// publish=[ADDRESS:]PORT:GUEST_PORT[/udp],allow-loopback=on|off; may be given several times
    #[arg(long = "net", value_name = "NET")]
    pub nets: Vec<NetOption>,
    /// A port of the host that leads into the guest, by the first user network (which it brings where there is no
    /// --net): [ADDRESS:]PORT:GUEST_PORT[/udp]; the address is 127.0.0.1 if left out, port 0 is a free one, which is
    /// told; may be given several times
    #[arg(long = "publish", value_name = "PORTS")]
    pub publish: Vec<PublishOption>,
    /// The console device: stdio, null or file=PATH [default: stdio; null for a stock kernel]
    #[arg(long, value_name = "CONSOLE")]
    pub console: Option<ConsoleOption>,
    /// The serial line of a stock kernel (ttyS0), likewise [default: stdio, unless the console is there]
    #[arg(long, value_name = "SERIAL")]
    pub serial: Option<ConsoleOption>,
    /// Memory beside --memory in which the guest has all that it shares with backends [default: none; 64M with a backend in
    /// another process, which sees nothing else of the guest]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub window: Option<Size>,
    /// Privilege level of the guest [default: 3 if the image allows it, else 0]
    #[arg(long, value_name = "0|3", value_parser = parse_cpl)]
    pub cpl: Option<u8>,
    /// Which machine runs the guest
    #[arg(long, value_enum, default_value_t = MachineChoice::Kvm)]
    pub machine: MachineChoice,
    /// A socket by which `pvkit inspect` and `pvkit ctl` reach the run
    #[arg(long, value_name = "PATH")]
    pub api_socket: Option<PathBuf>,
    /// End when the guest restarts, instead of booting it again
    #[arg(long)]
    pub no_reboot: bool,
    /// Print counters to standard error at the end
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub stats: Option<StatsFormat>,
    /// Where the counters go instead
    #[arg(long, hide = true, value_name = "PATH")]
    pub stats_file: Option<PathBuf>,
    /// Where it is told which ports are published, instead of standard error
    #[arg(long, hide = true, value_name = "PATH")]
    pub published_file: Option<PathBuf>,
    /// Break the backend on purpose, to see tests fail
    #[arg(long, hide = true)]
    pub mutant: Option<Mutant>,
    /// End when the process with this id, which started us, ends
    #[arg(long, hide = true, value_name = "PID")]
    pub die_with: Option<i32>,
}

/// A fault put in on purpose, to show that the demo notices it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mutant {
    /// The guest acknowledges records without having flushed.
    GuestNoflush,
    /// The backend answers a flush without doing it.
    BackendNoflush,
    /// The host lies to a stock kernel as that orders it to: by lines `LIE ...` on its serial line.
    Hostile,
}

/// `pvkit backend`.
#[derive(Args, Debug)]
#[command(after_help = BACKEND_HELP)]
pub struct BackendOptions {
    /// Where monitors connect; made with mode 0600. A service manager may pass a listening socket instead
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// A disk, as for `pvkit run`, with id=NAME; may be given several times
    #[arg(long = "disk", value_name = "DISK")]
    pub disks: Vec<DiskOption>,
    /// A network: tap,id=NAME on the TAP that a guest's monitor lends, or user,id=NAME with publish= and allow-loopback=; may
    /// be given several times
    #[arg(long = "net", value_name = "NET")]
    pub nets: Vec<ServedNet>,
    /// What a backend that a guest has taken over could still do: strict ends it at a system call that it never needs, log has
    /// the kernel log such calls, off gives nothing up
    #[arg(long, value_name = "strict|log|off", default_value_t)]
    pub sandbox: pvkit_sandbox::Mode,
    /// Take over from the backend that listens at the socket: it drains its queues and leaves, and its guests come here
    #[arg(long)]
    pub replace: bool,
}

/// `pvkit demo`.
#[derive(Args, Debug, Default)]
pub struct DemoOptions {
    /// Which machine runs the guest [default: kvm where usable, else in-process]
    #[arg(long, value_enum)]
    pub machine: Option<MachineChoice>,
    /// Privilege level of the guest [default: 3]
    #[arg(long, value_name = "0|3", value_parser = parse_cpl)]
    pub cpl: Option<u8>,
    /// Chooses the moments at which the guest is killed [default: random, printed]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Do not try to install a missing compiler target
    #[arg(long)]
    pub offline: bool,
    /// Keep the web server running at the end, and print its address; Ctrl-C ends it, with status 0
    #[arg(long)]
    pub stay: bool,
    /// The port of 127.0.0.1 on which it then is; implies --stay [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Keep the log disk's image, in the demo's folder
    #[arg(long)]
    pub keep: bool,
    /// Use this image instead of building one
    #[arg(long, value_name = "IMAGE")]
    pub kernel: Option<PathBuf>,
    /// Take the ready-made document disk even where mke2fs is installed
    #[arg(long)]
    pub ready_made: bool,
    /// Break something on purpose; the demo must then fail
    #[arg(long, hide = true)]
    pub mutant: Option<Mutant>,
}

/// `pvkit inspect`.
#[derive(Args, Debug)]
pub struct InspectOptions {
    /// The API socket of the run: what was given to `pvkit run --api-socket`; or a daemon's: `pvkit backend --socket`
    #[arg(value_name = "SOCKET")]
    pub socket: PathBuf,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// `pvkit ctl`.
#[derive(Args, Debug)]
pub struct CtlOptions {
    /// The API socket of the run: what was given to `pvkit run --api-socket`
    #[arg(value_name = "SOCKET")]
    pub socket: PathBuf,
    /// What to ask for
    #[arg(value_enum)]
    pub verb: Verb,
    /// Seconds that the guest has for its answer; a freeze ends by itself after them
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub patience: u32,
}

/// `pvkit doctor`.
#[derive(Args, Debug)]
pub struct DoctorOptions {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// `pvkit completions`.
#[derive(Args, Debug)]
pub struct CompletionsOptions {
    /// Which shell
    pub shell: Shell,
}

/// Shells that complete pvkit's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}

impl Shell {
    /// The same for clap.
    #[must_use]
    pub const fn kind(self) -> clap_complete::Shell {
        match self {
            Self::Bash => clap_complete::Shell::Bash,
            Self::Zsh => clap_complete::Shell::Zsh,
            Self::Fish => clap_complete::Shell::Fish,
        }
    }
}

/// `pvkit document-disk`, for tests and for making the ready-made disk.
#[derive(Args, Debug)]
pub struct DocumentDiskOptions {
    /// The image
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Most bytes of documents
    #[arg(long, default_value = "4M")]
    pub limit: Size,
    /// Also write FILE.zlib, packed, and FILE.sha256, what is on it
    #[arg(long)]
    pub pack: bool,
}

/// `pvkit guard`, internal.
#[derive(Args, Debug)]
pub struct GuardOptions {
    /// Process that started us
    #[arg(long)]
    pub die_with: i32,
    /// Program and arguments
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

fn parse_cpl(text: &str) -> Result<u8, String> {
    match text {
        "0" => Ok(0),
        "3" => Ok(3),
        _ => Err(format!("`{text}` is not a privilege level for guests; write 0 or 3")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn words_of_other_monitors_are_understood() {
        let words = "pvkit run --kernel g --cmdline app=x --cpus 2 --memory 1G --disk a --disk path=b,readonly=on";
        let cli = Cli::try_parse_from(words.split(' ')).unwrap();
        let Some(Command::Run(options)) = cli.command else { panic!("not run") };
        assert_eq!((options.cpus, options.memory, options.disks.len()), (2, Size(1 << 30), 2));
        assert_eq!((options.cpl, options.machine, options.stats), (None, MachineChoice::Kvm, None));
    }
}
