//! A medium that fails: what the disk over it says is true, and a lost write is never called durable.

use super::super::faulty::{Faults, FaultyFile};
use super::*;
use nix::fcntl::FallocateFlags;
use std::sync::{Arc, Condvar, Mutex};

const SIZE: u64 = 64 << 10;

type Told = Arc<Mutex<Vec<String>>>;

/// A disk on an image of its own that fails as `words` say, and what it was heard to give.
fn faulty(words: &str) -> (TempDir, PathBuf, RawDisk<FaultyFile>, Told) {
    let (folder, path) = image(SIZE);
    let told = Told::default();
    let hears = Arc::clone(&told);
    let log = Box::new(move |line: &str| hears.lock().unwrap().push(line.to_owned()));
    let faults: Faults = words.parse().unwrap();
    let disk = RawDisk::open_faulty(&path, &RawOptions::default(), faults, log).unwrap();
    (folder, path, disk, told)
}

/// Content that no other write of these tests has.
fn content(number: usize) -> Vec<u8> {
    (0..1024).map(|at| (number * 31 + at * 7 + at / 256) as u8 | 1).collect()
}

fn in_pieces(bytes: &[u8]) -> Vec<SharedBytes> {
    bytes.chunks(100).map(shared).collect()
}

#[test]
fn short_and_interrupted_transfers_move_everything() {
    let (_folder, path, disk, told) = faulty("1:short=90:delay=5");
    for number in 0..64 {
        let position = number as u64 * 1024;
        disk.write(position, &in_pieces(&content(number)), number % 2 == 0).unwrap();
        assert_eq!(read(&disk, position, 1024), content(number));
    }
    assert_eq!(std::fs::read(path).unwrap(), (0..64).flat_map(content).collect::<Vec<_>>());
    assert_eq!(told.lock().unwrap().len(), 0, "none of that is an error");
}

#[test]
fn each_error_ends_one_request_with_an_error_and_no_other() {
    let (_folder, _path, disk, told) = faulty("2:read=20:write=20:space=10:short=40");
    let (mut failed, mut full) = (0, 0);
    let mut stands = vec![None; 64];
    for round in 0..640 {
        let at = round * 37 % 64;
        let position = at as u64 * 1024;
        match disk.write(position, &in_pieces(&content(round)), false) {
            Ok(()) => stands[at] = Some(content(round)),
            Err(error) => {
                stands[at] = None;
                failed += 1;
                full += usize::from(error == DiskError::NoSpace);
            }
        }
        let into = shared(&[0; 1024]);
        match (disk.read(position, &[into]), &stands[at]) {
            (Ok(()), Some(bytes)) => assert_eq!(copy_of(&into), *bytes),
            (Ok(()), None) => {}
            (Err(_), _) => failed += 1,
        }
    }
    assert_eq!(told.lock().unwrap().len(), failed, "each error that was given reached the caller, once");
    assert!(failed > 100 && full > 10 && failed < 1200, "{failed}, {full}");
    disk.flush().unwrap();
}

#[test]
fn a_failed_sync_closes_a_disk_to_writes_and_leaves_its_reads() {
    let (_folder, path, disk, told) = faulty("3:sync=100");
    write(&disk, 0, &[7; 512]);
    let lost = Err(DiskError::Lost(libc::EIO));
    assert_eq!(disk.flush(), lost);
    assert_eq!(disk.flush(), lost);
    assert_eq!(disk.write(0, &[shared(&[8; 512])], false), lost);
    assert_eq!(disk.write(0, &[shared(&[8; 512])], true), lost);
    assert_eq!(disk.write_zeroes(0, 512, false), lost);
    assert_eq!(disk.discard(0, 512), lost);
    assert_eq!(read(&disk, 0, 512), [0; 512], "the medium took the write back");
    assert_eq!(told.lock().unwrap().len(), 1, "nothing went to the medium any more");
    drop(disk);
    let disk = open(&path);
    write(&disk, 0, &[9; 512]);
    disk.flush().unwrap();
}

#[test]
fn a_durable_write_whose_sync_fails_closes_it_as_well() {
    let (_folder, _path, disk, _told) = faulty("4:sync=100");
    let lost = Err(DiskError::Lost(libc::EIO));
    assert_eq!(disk.write(512, &[shared(&[1; 512])], true), lost);
    assert_eq!(disk.write(512, &[shared(&[1; 512])], false), lost);
    let (_folder, _path, disk, _told) = faulty("4:sync=100");
    assert_eq!(disk.write_zeroes(512, 512, true), lost);
    assert_eq!(disk.flush(), lost);
}

#[test]
fn a_write_that_was_never_stored_closes_nothing() {
    for (words, error) in [("5:space=100", DiskError::NoSpace), ("5:write=100", DiskError::Io(libc::EIO))] {
        let (_folder, _path, disk, _told) = faulty(words);
        for fua in [false, true] {
            assert_eq!(disk.write(0, &[shared(&[1; 512])], fua), Err(error));
            assert_eq!(disk.flush(), Ok(()), "{words}, fua {fua}");
        }
    }
}

/// A medium that tells the first of two syncs at once of an error, and the other one of none, which is done first.
struct TwoAtOnce {
    calls: Mutex<u32>,
    called: Condvar,
}

impl Medium for TwoAtOnce {
    fn read_at(&self, _: u64, _: &[SharedBytes], _: usize) -> std::io::Result<usize> {
        unreachable!("nobody reads")
    }

    fn write_at(&self, _: u64, from: &[SharedBytes], _: usize, durable: bool) -> std::io::Result<usize> {
        if durable {
            self.sync()?;
        }
        Ok(from[0].len())
    }

    fn sync(&self) -> std::io::Result<()> {
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        self.called.notify_all();
        if *calls > 1 {
            return Ok(());
        }
        while *calls < 2 {
            calls = self.called.wait(calls).unwrap();
        }
        drop(calls);
        // The other one is done by now, but for what its disk still does; if this is too short, that is as good as passed.
        std::thread::sleep(std::time::Duration::from_millis(100));
        Err(std::io::Error::from_raw_os_error(libc::EIO))
    }

    fn allocate(&self, _: FallocateFlags, _: libc::off_t, _: libc::off_t) -> std::io::Result<()> {
        Ok(())
    }

    fn size(&self) -> std::io::Result<u64> {
        Ok(SIZE)
    }
}

#[test]
fn of_two_syncs_at_once_none_succeeds_if_one_is_told_of_an_error() {
    for fua in [false, true] {
        let (_folder, path) = image(SIZE);
        let medium = |_| TwoAtOnce { calls: Mutex::default(), called: Condvar::new() };
        let disk = RawDisk::on(&path, &RawOptions::default(), medium).unwrap();
        let sync = || if fua { disk.write(0, &[shared(&[1; 512])], true) } else { disk.flush() };
        let results = std::thread::scope(|scope| {
            let both = [scope.spawn(sync), scope.spawn(sync)];
            both.map(|one| one.join().unwrap())
        });
        assert_eq!(results, [Err(DiskError::Lost(libc::EIO)); 2], "fua {fua}");
    }
}

/// Writes by turns with a flush and with FUA, and asks again where it is refused. What was called durable stands in the file.
fn keeps_its_word(path: &Path, disk: &dyn Disk) -> usize {
    let mut durable = 0;
    for number in 0..64 {
        let bytes = content(number);
        let fua = number % 3 == 2;
        let stored = (0..8).any(|_| disk.write(number as u64 * 1024, &in_pieces(&bytes), fua).is_ok());
        // A flush again, and not the write: the writer takes it for granted that what was stored is still there.
        if !stored || !(fua || (0..8).any(|_| disk.flush().is_ok())) {
            break;
        }
        durable += 1;
        let stands = std::fs::read(path).unwrap();
        for number in 0..durable {
            assert!(stands[number * 1024..][..1024] == content(number), "{number} of {durable} is lost");
        }
    }
    durable
}

#[test]
fn what_a_failed_sync_lost_is_never_called_durable() {
    let lengths: Vec<usize> = (0..40)
        .map(|seed| {
            let (_folder, path, disk, _told) = faulty(&format!("{seed}:sync=5:short=20:write=5"));
            keeps_its_word(&path, &disk)
        })
        .collect();
    assert!(lengths.iter().any(|length| *length > 8) && lengths.iter().any(|length| *length < 64), "{lengths:?}");
}

#[test]
fn nor_under_a_volatile_cache() {
    for seed in 0..40 {
        let (_folder, path, disk, _told) = faulty(&format!("{seed}:sync=5:short=20:write=5"));
        keeps_its_word(&path, &VolatileDisk::new(disk, 8 << 10));
    }
}

#[test]
fn a_volatile_cache_is_closed_with_the_disk_beneath() {
    let (_folder, _path, disk, _told) = faulty("6:sync=100");
    let disk = VolatileDisk::new(disk, 8 << 10);
    write(&disk, 0, &[7; 512]);
    let lost = Err(DiskError::Lost(libc::EIO));
    assert_eq!(disk.flush(), lost);
    assert_eq!(disk.write(0, &[shared(&[8; 512])], false), lost, "it would stay in the cache for ever");
    assert_eq!(disk.write_zeroes(0, 512, false), lost);
    assert_eq!(disk.flush(), lost);
}

#[test]
fn what_a_volatile_cache_could_not_write_down_it_keeps() {
    let (_folder, path, disk, _told) = faulty("8:space=20");
    let disk = VolatileDisk::new(disk, 8 << 10);
    for number in 0..8 {
        write(&disk, number * 1024, &content(number as usize)[..512]);
    }
    let failures = (0..1000).take_while(|_| disk.flush() == Err(DiskError::NoSpace)).count();
    assert!(failures > 0);
    let stands = std::fs::read(path).unwrap();
    for number in 0..8 {
        assert!(stands[number * 1024..][..512] == content(number)[..512], "{number} is lost");
    }
}

#[test]
fn faults_are_what_their_words_say() {
    let faults: Faults = "9:read=1:write=2:space=3:short=4:delay=5:sync=6".parse().unwrap();
    assert_eq!(faults, Faults { seed: 9, read: 1, write: 2, space: 3, short: 4, delay: 5, sync: 6 });
    for (text, thing) in
        [("", "``"), ("x:read=1", "`x`"), ("1:reed=1", "`reed=1`"), ("1:read=101", "`read=101`"), ("1:", "``")]
    {
        let error = text.parse::<Faults>().unwrap_err();
        assert!(error.contains(thing), "{text}: {error}");
    }
}
