//! The search from end to end, with a small set in MNIST's place.

use std::time::{Duration, Instant};

use super::*;
use crate::parts::Part;
use crate::test_support::{
    Answer, Random, Server, TempDir, closed_port, edition_of, gzip, idx_images, idx_labels, mnist_like, small_set,
};

const SHORT: Patience =
    Patience { connect: Duration::from_millis(500), silence: Duration::from_millis(300), ..PATIENCE };

/// A folder with `data`, `env` and `cache` in it, none of which exists yet.
struct Places {
    root: TempDir,
    locations: Locations,
}

impl Places {
    fn new() -> Places {
        let root = TempDir::new();
        let locations = Locations { cache: Some(root.path().join("cache")), ..Locations::default() };
        Places { root, locations }
    }

    fn data_dir(mut self, name: &str) -> Places {
        self.locations.data_dir = Some(self.root.path().join(name));
        self
    }

    fn environment(mut self) -> Places {
        self.locations.environment = Some(self.root.path().join("env"));
        self
    }

    fn mirrors(mut self, mirrors: &[&str]) -> Places {
        self.locations.mirrors = mirrors.iter().map(|&mirror| mirror.to_owned()).collect();
        self
    }

    fn put(&self, folder: &str, contents: &[Vec<u8>; 4]) {
        for (part, content) in PARTS.into_iter().zip(contents) {
            self.root.write(&format!("{folder}/{}", part.name()), content);
        }
    }

    fn load(&self, choice: Choice) -> Result<Dataset, Error> {
        let edition = edition_of(&small_set());
        load_edition(choice, &self.locations, &edition, SHORT, &mut |_| {})
    }

    /// The message, which must be one line, without the folder that differs from run to run.
    fn refusal(&self, choice: Choice) -> String {
        let message = self.load(choice).unwrap_err().to_string();
        assert!(!message.contains('\n'));
        message.replace(&self.root.path().display().to_string(), "")
    }
}

fn good_server() -> Server {
    let packed = small_set().map(|content| Answer::Whole(gzip(&content)));
    Server::start(packed.to_vec())
}

fn altered(part: Part) -> [Vec<u8>; 4] {
    let mut contents = small_set();
    let label = contents[part as usize].last_mut().unwrap();
    *label ^= 1;
    contents
}

#[test]
fn data_dir_comes_first_then_the_environment_then_the_cache() {
    let places = Places::new().environment();
    places.put("cache", &small_set());
    let note = places.load(Choice::Auto).unwrap().note;
    assert!(note.contains("from the cache") && note.contains("SPHEREFACE_DATA names"), "{note}");
    assert!(note.contains("which does not exist"), "{note}");
    places.put("env", &small_set());
    let note = places.load(Choice::Mnist).unwrap().note;
    assert!(note.contains("named by SPHEREFACE_DATA"), "{note}");
    let places = places.data_dir("data");
    places.put("data", &small_set());
    let set = places.load(Choice::Auto).unwrap();
    assert!(set.note.contains("named by --data-dir"), "{}", set.note);
    assert_eq!((&set.name[..], set.comparable, set.classes), ("mnist", true, 10));
    assert_eq!((set.train.len(), set.test.len()), (24, 12));
    assert_eq!(set.train.images, small_set()[0][16..]);
    assert_eq!(set.test.labels, small_set()[3][8..]);
}

#[test]
fn nothing_anywhere_gives_the_embedded_digits_and_says_why() {
    let set = Places::new().environment().load(Choice::Auto).unwrap();
    assert_eq!((&set.name[..], set.comparable), ("mnist-10k", false));
    for part in ["SPHEREFACE_DATA names", "holds no files", "no mirror", "not comparable"] {
        assert!(set.note.contains(part), "{part}: {}", set.note);
    }
    let asked = Places::new().load(Choice::Mnist10k).unwrap();
    assert_eq!(asked.train, set.train);
}

#[test]
fn mnist_or_nothing_lists_what_was_searched_and_what_to_do() {
    let dead = closed_port();
    let places = Places::new().environment().mirrors(&[&dead]);
    let message = places.refusal(Choice::Mnist);
    for part in ["/env", "/cache", &dead, "by hand: get train-images-idx3-ubyte.gz", "--data-dir"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn a_data_dir_without_a_set_is_an_error() {
    let server = good_server();
    let places = Places::new().data_dir("data").mirrors(&[&server.address]);
    places.put("cache", &small_set());
    for choice in [Choice::Auto, Choice::Mnist] {
        let message = places.refusal(choice);
        assert_eq!(message, "/data: folder: expected an IDX data set, found no such folder");
    }
    places.root.write("data/readme", b"");
    assert!(places.refusal(Choice::Auto).starts_with("/data: files: expected train-images-idx3-ubyte, "));
    assert!(server.requests().is_empty());
}

#[test]
fn another_set_in_data_dir_is_used_under_its_own_name() {
    let places = Places::new().data_dir("fashion-mnist");
    let labels = idx_labels(&[0, 1, 2]);
    let contents = [idx_images(3, 5, 7, 1), labels.clone(), idx_images(3, 5, 7, 2), labels];
    places.put("fashion-mnist", &contents);
    let set = places.load(Choice::Auto).unwrap();
    assert_eq!((&set.name[..], set.comparable, set.classes), ("fashion-mnist", false, 3));
    assert_eq!((set.train.height, set.train.width), (5, 7));
    assert!(set.note.contains("not comparable"), "{}", set.note);
    assert_eq!(places.root.files().len(), 4);
    assert!(places.refusal(Choice::Mnist).contains("sha256 of the unpacked file: expected MNIST's"));
}

#[test]
fn altered_mnist_is_never_called_mnist() {
    let places = Places::new().data_dir("mnist");
    places.put("mnist", &altered(Part::TrainImages));
    let set = places.load(Choice::Auto).unwrap();
    assert_eq!((&set.name[..], set.comparable), ("idx", false));
    assert!(set.note.contains("train-images-idx3-ubyte: altered or damaged"), "{}", set.note);
    let places = Places::new().environment();
    places.put("env", &altered(Part::TestLabels));
    let message = places.refusal(Choice::Auto);
    assert!(message.starts_with("/env/t10k-labels-idx1-ubyte: sha256"), "{message}");
}

#[test]
fn another_set_in_the_environment_is_passed_over_with_a_word() {
    let places = Places::new().environment();
    let labels = idx_labels(&[0, 1]);
    let contents = [idx_images(2, 5, 7, 1), labels.clone(), idx_images(2, 5, 7, 2), labels];
    places.put("env", &contents);
    let set = places.load(Choice::Auto).unwrap();
    assert_eq!(set.name, "mnist-10k");
    assert!(set.note.contains("another data set (2 training and 2 test images)"), "{}", set.note);
}

#[test]
fn damaged_files_are_errors_in_every_place() {
    for folder in ["data", "env", "cache"] {
        let server = good_server();
        let places = Places::new().mirrors(&[&server.address]);
        let places = match folder {
            "data" => places.data_dir("data"),
            "env" => places.environment(),
            _ => places,
        };
        let mut contents = small_set();
        contents[0].pop();
        places.put(folder, &contents);
        let message = places.refusal(Choice::Auto);
        let expected = format!(
            "/{folder}/train-images-idx3-ubyte: length: expected 400 bytes (16 + 24 × 4 × 4), found 399 (truncated)"
        );
        assert!(message.starts_with(&expected), "{message}");
        assert_eq!(message.contains("delete the file"), folder == "cache");
        assert!(server.requests().is_empty());
    }
}

#[test]
fn fetched_files_are_kept_and_not_fetched_again() {
    let server = good_server();
    let places = Places::new().mirrors(&[&server.address]);
    let first = places.load(Choice::Auto).unwrap();
    assert_eq!((&first.name[..], first.comparable), ("mnist", true));
    assert!(first.note.contains(&format!("fetched from {}, kept in", server.address)), "{}", first.note);
    let mut names = PARTS.map(|part| format!("cache/mnist/{}", part.name()));
    names.sort();
    assert_eq!(places.root.files(), names);
    let second = places.load(Choice::Mnist).unwrap();
    assert!(second.note.contains("from the cache"), "{}", second.note);
    assert_eq!((second.train, second.sha256), (first.train, first.sha256));
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn a_fetch_goes_on_where_it_broke_off() {
    let [a, b, c, d] = small_set().map(|content| Answer::Whole(gzip(&content)));
    let first = Server::start(vec![a, b, Answer::Status(503)]);
    let places = Places::new().mirrors(&[&first.address]);
    assert_eq!(places.load(Choice::Auto).unwrap().name, "mnist-10k");
    assert_eq!(places.root.files().len(), 2);
    let second = Server::start(vec![c, d]);
    let places = places.mirrors(&[&second.address]);
    assert_eq!(places.load(Choice::Auto).unwrap().name, "mnist");
    assert_eq!(second.requests().len(), 2);
}

#[test]
fn the_second_mirror_serves_where_the_first_is_dead_or_wrong() {
    let wrong = Server::start(vec![Answer::Whole(gzip(&altered(Part::TrainImages)[0]))]);
    for first in [&closed_port(), &wrong.address] {
        let second = good_server();
        let places = Places::new().mirrors(&[first, &second.address]);
        let set = places.load(Choice::Mnist).unwrap();
        assert!(set.note.contains(&second.address) && !set.note.contains(first), "{}", set.note);
    }
}

#[test]
fn a_failed_fetch_leaves_nothing_in_the_cache() {
    let packed = gzip(&small_set()[0]);
    let length = packed.len() as u64;
    for answer in [
        Answer::Whole(gzip(&altered(Part::TrainImages)[0])),
        Answer::Claim(length, packed[..packed.len() / 2].to_vec()),
        Answer::Unframed(packed[..packed.len() / 2].to_vec()),
        Answer::Stall(length),
        Answer::Silence,
        Answer::Status(404),
    ] {
        let server = Server::start(vec![answer.clone()]);
        let places = Places::new().mirrors(&[&server.address]);
        let started = Instant::now();
        let set = places.load(Choice::Auto).unwrap();
        assert!(started.elapsed() < Duration::from_secs(10), "{answer:?}");
        assert!(set.note.contains("fetching failed: http://127.0.0.1:"), "{}", set.note);
        assert!(places.root.files().is_empty(), "{answer:?}");
    }
}

#[test]
fn a_cache_that_cannot_be_written_does_not_stop_a_fetch() {
    let server = good_server();
    let places = Places::new().mirrors(&[&server.address]);
    places.root.write("cache/mnist", b"a file in the way of the folder");
    let set = places.load(Choice::Mnist).unwrap();
    assert!(set.note.contains("not kept"), "{}", set.note);
    assert_eq!(set.train.images, small_set()[0][16..]);
}

#[test]
fn sets_of_mnists_shape_read_the_same_raw_and_packed() {
    let contents = mnist_like(3);
    let edition = edition_of(&contents);
    let places = Places::new().data_dir("data");
    let load = |choice| load_edition(choice, &places.locations, &edition, SHORT, &mut |_| {});
    // Packed, and nowhere to unpack to: read here.
    for (part, content) in PARTS.into_iter().zip(&contents) {
        places.root.write(&format!("data/{}.gz", part.name()), &gzip(content));
    }
    places.root.write("cache", b"a file in the way of the folder");
    let read_here = load(Choice::Mnist).unwrap();
    assert_eq!(places.root.files().len(), 5);
    // Unpacked to the cache, read from there by the crate mnist.
    std::fs::remove_file(places.root.path().join("cache")).unwrap();
    let read_by_crate = load(Choice::Mnist).unwrap();
    assert_eq!(places.root.files().len(), 8);
    assert!(read_here.train == read_by_crate.train && read_here.test == read_by_crate.test);
    assert_eq!((read_here.train.len(), read_here.test.len()), (60_000, 10_000));
    assert!(read_here.train.images == contents[0][16..]);
}

/// Random bytes, and valid files with bytes changed, cut, doubled or inserted, raw and packed: never a panic, never more than one line.
#[test]
fn mutated_files_never_panic() {
    let mut random = Random(5);
    let mut accepted = 0;
    for round in 0..3000 {
        let mut contents = small_set();
        let part = PARTS[random.below(4)];
        let content = &mut contents[part as usize];
        let packed = random.below(3) > 0;
        if packed {
            *content = gzip(content);
        }
        match random.below(8) {
            0 => *content = (0..random.below(64)).map(|_| random.next() as u8).collect(),
            1 => content.truncate(random.below(content.len() + 1)),
            2 => content.extend_from_within(..random.below(20)),
            3 => content.insert(random.below(content.len()), random.next() as u8),
            _ => {
                for _ in 0..=random.below(3) {
                    // Half of the changes hit the header.
                    let end = [content.len(), 16][random.below(2)];
                    content[random.below(end)] = [0, 1, 0xff, random.next() as u8][random.below(4)];
                }
            }
        }
        let name = |part: Part| format!("{round} {}", part.name());
        let unpacked = crate::parts::for_each_part(|part| {
            let content = contents[part as usize].clone();
            let unpacked = crate::unpack::unpack(&name(part), part.kind(), content)?;
            Ok(crate::raw_set::RawFile { name: name(part), content: unpacked.bytes, unpacked_at: None })
        });
        match unpacked.and_then(RawSet::new) {
            Ok(set) => {
                accepted += 1;
                let (train, test) = set.into_sets();
                assert_eq!(train.images.len(), train.len() * train.image_bytes());
                assert_eq!(test.images.len(), test.len() * test.image_bytes());
            }
            Err(error) => assert_eq!(error.to_string().lines().count(), 1),
        }
    }
    // Changed pixels leave a valid set; if nothing else did, the mutations would be too coarse.
    assert!((100..2500).contains(&accepted), "{accepted}");
}
