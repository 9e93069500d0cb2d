//! Who may do what: names and passwords of `--password-file`, and how a request proves one.
//!
//! DESIGN. A password's hash is slow on purpose, so a thread works it out, at low priority, one
//! after the other, started by the first who needs it. What came of it is remembered, so that it
//! is worked out once for all requests of a browser: not the password, but two keyed hashes of what
//! was sent, which are of no use to anybody else. Who guesses has to wait longer after each wrong
//! guess, also when he knows another password; who is remembered does not, wherever he comes from.
//! A wait is never cut short to make room for another's: when all places are taken, the addresses
//! that have none count as one.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use std::{io, thread};

use base64::prelude::{BASE64_STANDARD, Engine};
use bcrypt::HashParts;
use mio::Waker;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::disk::{self, Ticket};
use crate::error::{Error, Result};
use crate::limits::{
    ACCESS_NICE, GUESS_TICKETS_MAX, GUESS_WAIT_MAX, GUESS_WAIT_MIN, GUESSERS_MAX, GUESSES_FREE,
    GUESSES_KEPT_TIME, GUESSES_WAITING_MAX, HASH_COST, HASH_COST_MAX, NAME_BYTES_MAX,
    PASSWORD_BYTES_MAX, PASSWORD_FILE_BYTES_MAX, PROOFS_KEPT_MAX,
};
use crate::thread::{stand_back, wake};

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Look, and nothing else.
    Viewer,
    /// Take, delete and set as well.
    Operator,
}

/// What is known of who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Known(Role),
    /// No name and password, or wrong ones.
    Unknown,
    /// It is being worked out: ask again when `take` has given the ticket.
    Waits,
    /// Too many wrong guesses; another may be made after this.
    Later(Duration),
}

/// One who may come in. Bound: `PASSWORD_FILE_BYTES_MAX`, with all others.
#[derive(Clone, Debug)]
struct User {
    name: String,
    hash: String,
    role: Role,
}

/// The lines of a password file.
#[derive(Clone, Debug)]
struct Users(Arc<[User]>);

impl Users {
    /// Read `path`: one `NAME:HASH` or `NAME:HASH:viewer` a line, the hash by bcrypt, as
    /// `--hash-password` and htpasswd make it. Empty lines and those with a `#` say nothing.
    fn read(path: &Path) -> Result<Users> {
        let text = disk::read_text(path, PASSWORD_FILE_BYTES_MAX)?;
        let mut users: Vec<User> = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |reason: &str| {
                let reason = format!("line {}: {reason}", n + 1);
                Error::found("read", path.display(), reason)
            };
            let user = user(line).map_err(wrong)?;
            if users.iter().any(|other| other.name == user.name) {
                return Err(wrong("this name stands there twice"));
            }
            users.push(user);
        }
        if users.is_empty() {
            let reason = "nobody stands in it; pistream --hash-password NAME makes a line";
            return Err(Error::found("read", path.display(), reason.to_owned()));
        }
        Ok(Users(users.into()))
    }
}

fn user(line: &str) -> std::result::Result<User, &'static str> {
    let mut fields = line.split(':');
    let (Some(name), Some(hash)) = (fields.next(), fields.next()) else {
        return Err("it must be NAME:HASH or NAME:HASH:viewer");
    };
    let role = match (fields.next(), fields.next()) {
        (None, _) => Role::Operator,
        (Some("viewer"), None) => Role::Viewer,
        _ => return Err("behind the hash there may only be \":viewer\""),
    };
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err("the name is empty, too long or has control characters");
    }
    let cost = hash.parse::<HashParts>().map(|parts| parts.get_cost());
    match cost {
        Ok(cost) if cost <= HASH_COST_MAX => {}
        Ok(_) => return Err("the hash's cost is too high for a small machine: 12 at most"),
        Err(_) => return Err("the hash is none of bcrypt's; pistream --hash-password makes one"),
    }
    Ok(User { name: name.to_owned(), hash: hash.to_owned(), role })
}

/// A line for the password file. `who`: a name, perhaps with `:viewer` behind it.
pub fn line(who: &str, password: &str) -> std::result::Result<String, String> {
    let (name, role) = who.split_once(':').map_or((who, None), |(n, role)| (n, Some(role)));
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        return Err(format!("the password must have 1 to {PASSWORD_BYTES_MAX} bytes"));
    }
    let hash = bcrypt::hash(password, HASH_COST).map_err(|error| error.to_string())?;
    let line = match role {
        None => format!("{name}:{hash}"),
        Some(role) => format!("{name}:{hash}:{role}"),
    };
    user(&line).map(|_| line).map_err(str::to_owned)
}

// ---- the check ------------------------------------------------------------------------------

/// A name with its password, by two hashes whose keys nobody knows.
type Proof = (u64, u64);

/// The one at the door.
#[derive(Debug)]
pub struct Access {
    /// None: everybody may come in.
    users: Option<Users>,
    /// Nobody may change anything.
    read_only: bool,
    keys: (RandomState, RandomState),
    /// What came of proofs, the newest last. INVARIANT: at most `PROOFS_KEPT_MAX`.
    known: VecDeque<(Proof, Option<Role>)>,
    /// Proofs being worked out. INVARIANT: at most `GUESSES_WAITING_MAX`.
    guesses: Vec<Guess>,
    /// INVARIANT: at most `GUESSERS_MAX`, and the crowd.
    guessers: HashMap<IpAddr, Guesser>,
    waker: Arc<Waker>,
    thread: Option<Thread>,
    /// Wrong proofs so far.
    failures: u64,
}

#[derive(Debug)]
struct Guess {
    proof: Proof,
    client: IpAddr,
    /// Bound: `NAME_BYTES_MAX`.
    name: String,
    /// Who waits for it, and who has left. INVARIANT: at most `GUESS_TICKETS_MAX`.
    tickets: Vec<Ticket>,
}

/// All addresses for which there is no place among the guessers; nobody has this one.
const CROWD: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Somewhere that wrong proofs came from.
#[derive(Clone, Copy, Debug)]
struct Guesser {
    wrong: u32,
    last: Instant,
    /// Until then it may not guess again.
    until: Instant,
}

/// Bound: `GUESSES_WAITING_MAX`.
#[derive(Debug)]
struct Thread {
    jobs: SyncSender<(Proof, String, String)>,
    done: Receiver<(Proof, Option<Role>)>,
}

impl Access {
    /// With the users of `--password-file`, if there is one. The waker tells that there is
    /// something to `take`.
    pub fn open(file: Option<&Path>, read_only: bool, waker: Arc<Waker>) -> Result<Access> {
        Ok(Access {
            users: file.map(Users::read).transpose()?,
            read_only,
            keys: (RandomState::new(), RandomState::new()),
            known: VecDeque::new(),
            guesses: Vec::new(),
            guessers: HashMap::new(),
            waker,
            thread: None,
            failures: 0,
        })
    }

    /// Whether names and passwords are asked for.
    pub fn asks(&self) -> bool {
        self.users.is_some()
    }

    /// Wrong names and passwords so far.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// What is known of who sends this `Authorization` from there.
    pub fn check(
        &mut self,
        authorization: Option<&str>,
        client: IpAddr,
        ticket: Ticket,
        now: Instant,
    ) -> Verdict {
        let Some(users) = &self.users else { return Verdict::Known(self.limited(Role::Operator)) };
        let Some(authorization) = authorization else { return Verdict::Unknown };
        let Some(sent) = credentials(authorization) else { return Verdict::Unknown };
        // Not of what is written in the header, which has many spellings for one password.
        let proof = (self.keys.0.hash_one(&sent), self.keys.1.hash_one(&sent));
        if let Some((_, role)) = self.known.iter().find(|(known, _)| *known == proof) {
            return role.map_or(Verdict::Unknown, |role| Verdict::Known(self.limited(role)));
        }
        let (name, password) = sent;
        let client = neighbourhood(client);
        if let Some(guess) = self.guesses.iter_mut().find(|guess| guess.proof == proof) {
            // One a guest, for it asks for one thing at a time; but guests come and go meanwhile.
            if guess.tickets.len() >= GUESS_TICKETS_MAX {
                return Verdict::Later(GUESS_WAIT_MIN);
            }
            guess.tickets.push(ticket);
            return Verdict::Waits;
        }
        let place = self.place(client);
        if let Some(guesser) = self.guessers.get(&place)
            && guesser.until > now
        {
            return Verdict::Later(guesser.until - now);
        }
        // One guess at a time from one place, so that a crowd of them is no faster.
        let busy = self.guesses.iter().any(|guess| self.place(guess.client) == place);
        if busy || self.guesses.len() >= GUESSES_WAITING_MAX {
            return Verdict::Later(GUESS_WAIT_MIN);
        }
        let thread = match self.thread.take() {
            Some(thread) => Ok(thread),
            None => Thread::start(users.clone(), self.waker.clone()),
        };
        let sent = thread.and_then(|thread| {
            let sent = thread.jobs.try_send((proof, name.clone(), password));
            self.thread = Some(thread);
            sent.map_err(|_| Error::found("ask", "the password thread", "it has ended".into()))
        });
        if let Err(error) = sent {
            log::error!("{error}");
            self.thread = None;
            return Verdict::Later(GUESS_WAIT_MIN);
        }
        self.guesses.push(Guess { proof, client, name, tickets: vec![ticket] });
        Verdict::Waits
    }

    /// Those whose verdict is there now.
    pub fn take(&mut self, now: Instant) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        while let Some(thread) = &self.thread {
            let (proof, role) = match thread.done.try_recv() {
                Ok(done) => done,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    // A fault of ours; who waits is asked for a name and a password once more.
                    log::error!("the password thread has ended by a fault of ours");
                    self.thread = None;
                    tickets.extend(self.guesses.drain(..).flat_map(|guess| guess.tickets));
                    break;
                }
            };
            let Some(at) = self.guesses.iter().position(|guess| guess.proof == proof) else {
                continue;
            };
            let guess = self.guesses.swap_remove(at);
            self.remember(proof, role);
            // One that is right takes no failure back: who may look could guess on for more.
            if role.is_none() {
                self.note_failure(&guess, now);
            }
            tickets.extend(guess.tickets);
        }
        tickets
    }

    fn limited(&self, role: Role) -> Role {
        if self.read_only { Role::Viewer } else { role }
    }

    /// What is forgotten first is what was wrong.
    fn remember(&mut self, proof: Proof, role: Option<Role>) {
        if self.known.len() >= PROOFS_KEPT_MAX {
            let wrong = self.known.iter().position(|(_, role)| role.is_none());
            self.known.remove(wrong.unwrap_or(0));
        }
        self.known.push_back((proof, role));
    }

    /// Where guesses of a client are counted.
    fn place(&self, client: IpAddr) -> IpAddr {
        let own = self.guessers.contains_key(&client) || self.guessers.len() < GUESSERS_MAX;
        if own { client } else { CROWD }
    }

    fn note_failure(&mut self, guess: &Guess, now: Instant) {
        self.failures += 1;
        self.guessers.retain(|_, guesser| now < guesser.last + GUESSES_KEPT_TIME);
        let place = self.place(guess.client);
        let fresh = Guesser { wrong: 0, last: now, until: now };
        let guesser = self.guessers.entry(place).or_insert(fresh);
        guesser.wrong = guesser.wrong.saturating_add(1);
        guesser.last = now;
        let doublings = guesser.wrong.saturating_sub(GUESSES_FREE).min(16);
        let wait = match doublings {
            0 => Duration::ZERO,
            // Somebody with the right password may be among them.
            _ if place == CROWD => GUESS_WAIT_MIN,
            n => (GUESS_WAIT_MIN * 2_u32.pow(n - 1)).min(GUESS_WAIT_MAX),
        };
        guesser.until = now + wait;
        let name: String = guess.name.chars().flat_map(char::escape_default).collect();
        log::warn!("{}: wrong name or password, {} times now: {name}", guess.client, guesser.wrong);
    }
}

/// Name and password in an `Authorization` (RFC 7617).
fn credentials(authorization: &str) -> Option<(String, String)> {
    let (scheme, encoded) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (name, password) = text.split_once(':')?;
    let fits = name.len() <= NAME_BYTES_MAX && password.len() <= PASSWORD_BYTES_MAX;
    // bcrypt ends a password at its first NUL.
    (fits && !password.contains('\0')).then(|| (name.to_owned(), password.to_owned()))
}

/// Who has one address of IPv6 has 2^64 of them.
fn neighbourhood(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

impl Thread {
    fn start(users: Users, waker: Arc<Waker>) -> Result<Thread> {
        let (jobs, todo) = sync_channel(GUESSES_WAITING_MAX);
        let (answers, done) = sync_channel(GUESSES_WAITING_MAX);
        thread::Builder::new()
            .name("access".into())
            .spawn(move || work(&users, &todo, &answers, &waker))
            .map_err(|source| Error::new("start", "the password thread", source))?;
        Ok(Thread { jobs, done })
    }
}

fn work(
    users: &Users,
    todo: &Receiver<(Proof, String, String)>,
    answers: &SyncSender<(Proof, Option<Role>)>,
    waker: &Waker,
) {
    stand_back(ACCESS_NICE, "the password thread");
    while let Ok((proof, name, password)) = todo.recv() {
        let role = role_of(users, &name, &password);
        match answers.try_send((proof, role)) {
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => return,
        }
        wake(waker);
    }
}

/// A name that is not there takes as long as one that is, so that time does not tell which are.
fn role_of(users: &Users, name: &str, password: &str) -> Option<Role> {
    let user = users.0.iter().find(|user| user.name == name);
    let hash = user.or(users.0.first()).map_or("", |user| &user.hash);
    let right = bcrypt::verify(password, hash).unwrap_or(false);
    user.filter(|_| right).map(|user| user.role)
}

/// Ask at the terminal, or read from a pipe, a password for `who`; gives its line for the file.
pub fn read_line(who: &str, mut screen: impl Write) -> std::result::Result<String, String> {
    let input = io::stdin();
    let shown = hide_typing(&input);
    if shown.is_some() {
        let _ = write!(screen, "Password for {who}: ");
    }
    let mut password = String::new();
    let read = input.read_line(&mut password);
    if let Some(shown) = shown {
        let _ = tcsetattr(&input, OptionalActions::Now, &shown);
        let _ = writeln!(screen);
    }
    read.map_err(|error| format!("read the password: {error}"))?;
    line(who, password.trim_end_matches(['\r', '\n']))
}

/// How the terminal was set before; none if the input is none.
fn hide_typing(input: &io::Stdin) -> Option<Termios> {
    let shown = tcgetattr(input).ok()?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(input, OptionalActions::Now, &hidden).ok()?;
    Some(shown)
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Token};

    use super::*;

    /// Anna's password is "secret".
    fn door() -> (Access, Poll) {
        let poll = Poll::new().expect("a poll");
        let waker = Waker::new(poll.registry(), Token(0)).expect("a waker");
        let mut access = Access::open(None, false, Arc::new(waker)).expect("nothing to be read");
        let hash = bcrypt::hash("secret", 4).expect("a hash");
        let anna = User { name: "anna".into(), hash, role: Role::Operator };
        access.users = Some(Users(Arc::new([anna])));
        (access, poll)
    }

    fn address(n: usize) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n as u32).into()
    }

    /// Somebody has guessed wrongly.
    fn note_guess(access: &mut Access, client: IpAddr, now: Instant) {
        let (proof, name, tickets) = ((0, 0), "anna".to_owned(), Vec::new());
        access.note_failure(&Guess { proof, client, name, tickets }, now);
    }

    /// What becomes of a password when it has been worked out, if it is.
    #[track_caller]
    fn verdict(access: &mut Access, password: &str, client: IpAddr, now: Instant) -> Verdict {
        let sent = format!("Basic {}", BASE64_STANDARD.encode(format!("anna:{password}")));
        let ticket = Ticket { seat: 0, guest: 0 };
        let check = |access: &mut Access| access.check(Some(&sent), client, ticket, now);
        let verdict = check(access);
        if verdict != Verdict::Waits {
            return verdict;
        }
        let end = Instant::now() + Duration::from_secs(20);
        while access.take(now).is_empty() {
            assert!(Instant::now() < end, "never worked out");
            thread::yield_now();
        }
        check(access)
    }

    #[test]
    fn each_wrong_guess_doubles_the_wait_up_to_five_minutes() {
        let (mut access, _poll) = door();
        let now = Instant::now();
        for wait in [0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            note_guess(&mut access, address(1), now);
            let left = access.guessers[&address(1)].until - now;
            assert_eq!(left, Duration::from_secs(wait));
        }
        let Verdict::Later(_) = verdict(&mut access, "secret", address(1), now) else {
            panic!("even the right one is not looked at");
        };
        let known = Verdict::Known(Role::Operator);
        assert_eq!(verdict(&mut access, "secret", address(2), now), known);
        assert_eq!(verdict(&mut access, "secret", address(1), now), known, "it is remembered");
    }

    /// The table once forgot the oldest of 1,024 guessers, though it was still being made to wait.
    #[test]
    fn a_crowd_of_guessers_frees_nobody_who_waits() {
        let (mut access, _poll) = door();
        let begin = Instant::now();
        (0..8).for_each(|_| note_guess(&mut access, address(0), begin));
        for n in 1..=5 * GUESSERS_MAX {
            let now = begin + Duration::from_micros(n as u64);
            note_guess(&mut access, address(n), now);
        }
        assert!(access.guessers.len() <= GUESSERS_MAX + 1, "{}", access.guessers.len());
        let now = begin + Duration::from_millis(500);
        let Verdict::Later(wait) = verdict(&mut access, "guess", address(0), now) else {
            panic!("it was let guess");
        };
        assert_eq!(wait, Duration::from_millis(15_500));
    }

    #[test]
    fn addresses_without_a_place_guess_one_a_second_and_who_is_right_comes_in() {
        let (mut access, _poll) = door();
        let begin = Instant::now();
        (0..2 * GUESSERS_MAX).for_each(|n| note_guess(&mut access, address(n), begin));
        let (stranger, guesser) = (address(9_000_000), address(9_000_001));
        let Verdict::Later(wait) = verdict(&mut access, "secret", stranger, begin) else {
            panic!("not one of the crowd");
        };
        assert_eq!(wait, GUESS_WAIT_MIN);
        let now = begin + GUESS_WAIT_MIN;
        let known = Verdict::Known(Role::Operator);
        assert_eq!(verdict(&mut access, "secret", stranger, now), known);
        assert_eq!(verdict(&mut access, "guess", guesser, now), Verdict::Unknown);
        assert_eq!(verdict(&mut access, "another", guesser, now), Verdict::Later(GUESS_WAIT_MIN));
        assert_eq!(verdict(&mut access, "secret", stranger, now), known, "it is remembered");
        // Those that keep quiet give their places back.
        let later = now + GUESSES_KEPT_TIME;
        note_guess(&mut access, address(1), later);
        assert_eq!(access.guessers.len(), 1);
        assert_eq!(access.place(guesser), guesser);
    }

    /// One right password, in another spelling each time, once set a guesser free again and again.
    #[test]
    fn who_may_come_in_guesses_no_faster_at_another_name() {
        let (mut access, _poll) = door();
        let (client, now) = (address(1), Instant::now());
        let known = Verdict::Known(Role::Operator);
        (0..=GUESSES_FREE).for_each(|_| note_guess(&mut access, client, now));
        let later = now + GUESS_WAIT_MIN;
        assert_eq!(verdict(&mut access, "secret", client, later), known);
        let encoded = BASE64_STANDARD.encode("anna:secret");
        for spelling in ["Basic ", "basic ", "BASIC   "] {
            let sent = format!("{spelling}{encoded}");
            let ticket = Ticket { seat: 0, guest: 0 };
            assert_eq!(access.check(Some(&sent), client, ticket, later), known, "{spelling}");
        }
        assert_eq!(access.known.len(), 1);
        note_guess(&mut access, client, later);
        assert_eq!(
            verdict(&mut access, "guess", client, later),
            Verdict::Later(2 * GUESS_WAIT_MIN)
        );
    }

    #[test]
    fn guests_who_come_and_go_while_a_password_is_worked_out_are_not_counted_for_ever() {
        let (mut access, _poll) = door();
        let (client, now) = (address(1), Instant::now());
        let mut ask = |guest| {
            let sent = format!("Basic {}", BASE64_STANDARD.encode("anna:secret"));
            access.check(Some(&sent), client, Ticket { seat: 0, guest }, now)
        };
        // What came of it is not taken: it is as if it took long.
        for guest in 0..GUESS_TICKETS_MAX as u64 {
            assert_eq!(ask(guest), Verdict::Waits, "guest {guest}");
        }
        assert_eq!(ask(GUESS_TICKETS_MAX as u64), Verdict::Later(GUESS_WAIT_MIN));
    }
}
