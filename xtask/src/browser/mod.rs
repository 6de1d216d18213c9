//! The report in a real browser, in a reader's hands: with mouse, finger and keys, on a desktop, a phone and paper.

mod checks;
mod devtools;
mod page;
mod picture;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::{cargo, output_dir};
use checks::{BROKEN, CHECKS, Check};
use devtools::Browser;
use page::{DESKTOP, Page};

/// The browsers we know, in the order of preference.
const BROWSERS: &[&str] = &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// How long one check may take: far more than it needs on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a check may wait on a page on which it must fail.
const PATIENCE_WITH_BROKEN: Duration = Duration::from_secs(10);
/// The largest page.
const MAX_PAGE_BYTES: u64 = 4 << 20;

/// Writes a sample report, opens it and runs all checks; each has a name and a result.
pub(crate) fn check_report() -> Vec<(String, Result<(), String>)> {
    let ready = find_browser().and_then(|program| Ok((Browsers::new(program)?, write_sample()?)));
    let (mut browsers, file) = match ready {
        Ok(ready) => ready,
        Err(error) => return vec![("report_opens".to_owned(), Err(error))],
    };
    let mut results = vec![("report_is_small".to_owned(), is_small(&file))];
    for check in CHECKS {
        let first = results.len() == 1;
        let result = browsers.run(check, &file);
        let stop = first && result.is_err();
        results.push((check.0.to_owned(), result));
        if stop {
            return results;
        }
    }
    results.push(("broken_page_fails_every_check".to_owned(), browsers.refuse_broken_page()));
    results.push(("death_of_the_browser_is_told".to_owned(), browsers.tell_death(&file)));
    results
}

fn is_small(file: &Path) -> Result<(), String> {
    let bytes = fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?.len();
    if bytes < MAX_PAGE_BYTES {
        return Ok(());
    }
    Err(format!("{}: expected fewer than {MAX_PAGE_BYTES} bytes, found {bytes}", file.display()))
}

/// One browser for all checks; after one that failed, a new one.
struct Browsers {
    program: PathBuf,
    folder: PathBuf,
    started: usize,
    running: Option<Browser>,
}

impl Browsers {
    fn new(program: PathBuf) -> Result<Self, String> {
        let folder = output_dir().join("browser");
        empty(&folder)?;
        Ok(Browsers { program, folder, started: 0, running: None })
    }

    /// The browser for one more check, with a profile of its own.
    fn take(&mut self) -> Result<Browser, String> {
        if let Some(mut browser) = self.running.take() {
            browser.allow(PATIENCE);
            return Ok(browser);
        }
        self.started += 1;
        let folder = self.folder.join(self.started.to_string());
        empty(&folder)?;
        Browser::start(&self.program, &folder, PATIENCE)
    }

    fn run(&mut self, (_, view, act): &Check, file: &Path) -> Result<(), String> {
        let mut browser = self.take()?;
        let mut page = Page::open(&mut browser, file, *view)?;
        act(&mut page)?;
        if let Some(message) = page.said().first() {
            return Err(format!("the page said: {message}"));
        }
        page.close()?;
        self.running = Some(browser);
        Ok(())
    }

    /// No check passes on a page that does everything wrong.
    fn refuse_broken_page(&mut self) -> Result<(), String> {
        let file = self.folder.join("broken.html");
        fs::write(&file, BROKEN).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let mut browser = self.take()?;
        for (name, view, act) in CHECKS {
            browser.allow(PATIENCE_WITH_BROKEN);
            let mut page = Page::open(&mut browser, &file, *view)?;
            if act(&mut page).is_ok() {
                return Err(format!("{name} passes on a page without what it looks for"));
            }
            page.close()?;
        }
        self.running = Some(browser);
        Ok(())
    }

    /// A page or a browser that dies is an error, at once.
    fn tell_death(&mut self, file: &Path) -> Result<(), String> {
        for (crash, told) in [("Page.crash", "the page crashed"), ("Browser.crash", "the browser died")] {
            let mut browser = self.take()?;
            let mut page = Page::open(&mut browser, file, DESKTOP)?;
            let found = page.call(crash, json!({})).and_then(|_| page.settle());
            if !found.as_ref().is_err_and(|error| error.starts_with(told)) {
                return Err(format!("{crash}: expected an error `{told}`, found {found:?}"));
            }
        }
        Ok(())
    }
}

fn find_browser() -> Result<PathBuf, String> {
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let mut candidates = BROWSERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates
        .find(|path| path.is_file())
        .ok_or_else(|| "no Chromium found; install it (Debian: `apt-get install chromium`)".to_owned())
}

/// Lets the report's example write its page.
fn write_sample() -> Result<PathBuf, String> {
    let folder = output_dir().join("report");
    empty(&folder)?;
    let mut command = cargo();
    command.args(["run", "--quiet", "-p", "sphereface-report", "--example", "sample", "--"]).arg(&folder);
    let status = command.status().map_err(|error| format!("cannot start cargo: {error}"))?;
    let page = folder.join("report.html");
    if !status.success() {
        return Err(format!("the example `sample` of sphereface-report failed ({status})"));
    }
    if !page.is_file() {
        return Err(format!("the example `sample` of sphereface-report wrote no {}", page.display()));
    }
    Ok(page)
}

/// Makes the folder, empty.
fn empty(folder: &Path) -> Result<(), String> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("cannot empty {}: {error}", folder.display()))?;
    }
    fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))
}
