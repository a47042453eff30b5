//! Filters of system calls, one a role, entered thread by thread.
//!
//! Each role has two programs: one that lets listed calls through and ends the process at any other, and before it one that
//! lets some calls fail (`Rule::Fails`). Of several answers the kernel takes the hardest.

use crate::calls::table::{self, older};
use crate::calls::{Row, Rule, Test};
use crate::{Mode, Outcome, Part, SandboxError};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// What a thread is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes connections, windows and images, starts the others: the main thread.
    Control,
    /// A queue of a disk, a console, or anything else that needs only its image, its window and its doorbells.
    Block,
    /// A queue of a network card on a TAP or a connected socket, or such a descriptor's reader.
    Net,
    /// User-mode networking: makes connections for guests.
    UserNet,
}

impl Role {
    /// The filter's part in the report.
    fn part(self) -> &'static str {
        match self {
            Self::Control => "filter-control",
            Self::Block => "filter-block",
            Self::Net => "filter-net",
            Self::UserNet => "filter-user-net",
        }
    }

    fn lists(self) -> &'static [&'static [Row]] {
        match self {
            Self::Control => &[table::CONTROL, older::WAITING, older::CONTROL],
            Self::Block => &[table::BLOCK],
            Self::Net => &[table::NET],
            Self::UserNet => &[table::USER_NET, older::WAITING],
        }
    }
}

/// The filters of a process, made before it is locked down, and by itself: they know its number.
#[derive(Clone, Debug)]
pub struct Filters {
    mode: Mode,
    programs: Vec<(Role, Programs)>,
}

#[derive(Clone, Debug)]
struct Programs {
    /// One for each error that calls are to fail with.
    failing: Vec<BpfProgram>,
    listed: BpfProgram,
    calls: usize,
}

/// What is said of each call.
type Judged = BTreeMap<i64, Vec<Rule>>;

impl Filters {
    /// Filters for the control thread and for workers of these roles. The control thread can start no other workers: what
    /// they need is not in its filter, which they inherit.
    ///
    /// # Errors
    /// This architecture has no filters, or a list is too long for one.
    pub fn new(mode: Mode, workers: &[Role]) -> Result<Self, SandboxError> {
        if mode == Mode::Off {
            return Ok(Self { mode, programs: Vec::new() });
        }
        let roles = std::iter::once(&Role::Control).chain(workers.iter().filter(|role| **role != Role::Control));
        let made = roles.map(|role| Ok((*role, Programs::new(mode, &judge(*role, workers))?)));
        let programs = made.collect::<Result<_, BackendError>>();
        let failed = |error: BackendError| SandboxError::Part { name: "filters", reason: error.to_string() };
        Ok(Self { mode, programs: programs.map_err(failed)? })
    }

    /// Enters the filter of `role` with the calling thread, for ever; threads that it starts are in it from their start. In
    /// [`Mode::Off`] nothing is done.
    ///
    /// # Errors
    /// No filter was made for the role; or the kernel refused it, which is an error in [`Mode::Strict`] only. The thread is to
    /// end without having looked at what a guest wrote.
    pub fn enter(&self, role: Role) -> Result<Part, SandboxError> {
        let name = role.part();
        if self.mode == Mode::Off {
            return Ok(Part { name, outcome: Outcome::Off });
        }
        let known = self.programs.iter().find(|(other, _)| *other == role);
        let (_, programs) = known.ok_or(SandboxError::NoSuchRole(name))?;
        let outcome = match (self.mode, programs.install()) {
            (Mode::Strict, Ok(())) => Outcome::Applied(format!("{} calls, any other ends the process", programs.calls)),
            (_, Ok(())) => Outcome::Applied(format!("{} calls, any other is logged", programs.calls)),
            (Mode::Strict, Err(error)) => return Err(SandboxError::Part { name, reason: error.to_string() }),
            (_, Err(error)) => Outcome::Unavailable(error.to_string()),
        };
        Ok(Part { name, outcome })
    }
}

impl Programs {
    fn new(mode: Mode, judged: &Judged) -> Result<Self, BackendError> {
        let (otherwise, fails_in_log) = match mode {
            Mode::Log => (SeccompAction::Log, false),
            Mode::Strict | Mode::Off => (SeccompAction::KillProcess, true),
        };
        let (mut listed, mut failing) = (BTreeMap::new(), BTreeMap::<libc::c_int, BTreeMap<_, _>>::new());
        for (&number, rules) in judged {
            match rules.first() {
                Some(&Rule::Fails(error)) if fails_in_log || error == libc::ENOSYS => {
                    failing.entry(error).or_default().insert(number, Vec::new());
                    listed.insert(number, Vec::new());
                }
                Some(Rule::Fails(_)) | None => {}
                Some(Rule::Always | Rule::When(_)) => {
                    listed.insert(number, conditions(rules)?);
                }
            }
        }
        let calls = listed.len();
        let failing = failing
            .into_iter()
            .map(|(error, rules)| compile(rules, SeccompAction::Allow, SeccompAction::Errno(error.unsigned_abs())));
        Ok(Self {
            failing: failing.collect::<Result<_, _>>()?,
            listed: compile(listed, otherwise, SeccompAction::Allow)?,
            calls,
        })
    }

    /// The harmless ones first: the last one takes away the right to add another.
    fn install(&self) -> Result<(), seccompiler::Error> {
        for program in &self.failing {
            seccompiler::apply_filter(program)?;
        }
        seccompiler::apply_filter(&self.listed)
    }
}

/// What the lists of a role say of each call; of a call that one list allows no other list's failure is kept.
fn judge(role: Role, workers: &[Role]) -> Judged {
    let mut lists = vec![table::RUNTIME, older::RUNTIME];
    lists.extend(role.lists());
    if role == Role::Control {
        lists.extend(workers.iter().flat_map(|worker| worker.lists()));
        if workers.contains(&Role::Net) {
            lists.push(table::NET_CONTROL);
        }
    }
    let mut judged = Judged::new();
    for (number, rule) in lists.into_iter().flatten() {
        judged.entry(*number).or_default().push(*rule);
    }
    for rules in judged.values_mut() {
        let allowed = rules.iter().any(|rule| !matches!(rule, Rule::Fails(_)));
        rules.retain(|rule| !allowed || !matches!(rule, Rule::Fails(_)));
    }
    judged
}

/// No conditions at all if one list allows the call always.
fn conditions(rules: &[Rule]) -> Result<Vec<SeccompRule>, BackendError> {
    let mut groups = Vec::new();
    for rule in rules {
        match rule {
            Rule::Always => return Ok(Vec::new()),
            Rule::When(tests) => groups.extend_from_slice(tests),
            Rule::Fails(_) => {}
        }
    }
    groups.into_iter().map(|tests| SeccompRule::new(tests.iter().map(condition).collect::<Result<_, _>>()?)).collect()
}

fn condition(test: &Test) -> Result<SeccompCondition, BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    use SeccompCmpOp::{Eq, MaskedEq};
    match *test {
        Test::Is(argument, value) => SeccompCondition::new(argument, Dword, Eq, value.into()),
        Test::Bits(argument, mask, value) => {
            SeccompCondition::new(argument, Dword, MaskedEq(mask.into()), value.into())
        }
        Test::Null(argument) => SeccompCondition::new(argument, Qword, Eq, 0),
        Test::OwnProcess(argument) => SeccompCondition::new(argument, Dword, Eq, std::process::id().into()),
    }
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, otherwise, listed, TargetArch::try_from(std::env::consts::ARCH)?)?.try_into()
}

#[cfg(test)]
mod tests;
