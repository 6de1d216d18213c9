//! The report in a real browser: its scripts run, the console stays silent, and it shows something at a wide and
//! a narrow width, light and dark.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::picture::Picture;
use crate::{cargo, output_dir};

/// A check and its result.
pub(crate) type Check = (String, Result<(), String>);

/// The browsers we know, in the order of preference.
const BROWSERS: &[&str] = &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// 500 is the narrowest window of a headless Chromium.
const WIDTHS: [u32; 2] = [1280, 500];
const HEIGHT: u32 = 1600;
/// How long the page may take by its own clock, and Chromium by ours.
const PAGE_TIME_MS: u32 = 5000;
const PATIENCE: Duration = Duration::from_secs(60);

/// The share of pixels that must differ from the background.
const MIN_DRAWN: f64 = 0.01;

/// Writes a sample report and looks at it in a headless Chromium.
pub(crate) fn check_report() -> Vec<Check> {
    let ready = find_browser().and_then(|browser| Ok((browser, write_sample()?)));
    let (browser, page) = match ready {
        Ok(found) => found,
        Err(error) => return vec![("report_opens".to_owned(), Err(error))],
    };
    let mut checks = check_scripts(&browser, &page);
    for width in WIDTHS {
        checks.extend(check_pictures(&browser, &page, width));
    }
    checks
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

/// The page's scripts ran to their end, and said nothing on the console.
fn check_scripts(browser: &Path, page: &Path) -> Vec<Check> {
    let run = browse(browser, page, &["--dump-dom".to_owned()]);
    let (ran, silent, right) = match &run {
        Ok(Output { document, log }) => (is_ready(document), console(log), is_right(document)),
        Err(error) => (Err(error.clone()), Err(error.clone()), Err(error.clone())),
    };
    vec![
        ("report_scripts_run".to_owned(), ran),
        ("report_console_is_silent".to_owned(), silent),
        ("report_arithmetic_is_the_references".to_owned(), right),
    ]
}

/// The page compares the loss and the gradients it draws with those of the f64 reference, and notes what it found.
fn is_right(document: &str) -> Result<(), String> {
    let html = document.find("<html").and_then(|at| document[at..].split('>').next()).unwrap_or_default();
    match html.split_once("data-mathematics=\"").and_then(|(_, rest)| rest.split('"').next()) {
        Some("right") => Ok(()),
        Some(found) => Err(format!("the page's loss and gradients are {found}")),
        None => Err("the page did not compare its loss and gradients with the reference's".to_owned()),
    }
}

/// The page sets `document.documentElement.dataset.ready` as the last act of its scripts.
fn is_ready(document: &str) -> Result<(), String> {
    let html = document.find("<html").and_then(|at| document[at..].split('>').next()).unwrap_or_default();
    if html.contains("data-ready=\"true\"") {
        return Ok(());
    }
    Err("the page did not set `document.documentElement.dataset.ready = \"true\"`: a script stopped early".to_owned())
}

/// Chromium logs every console message of a page at the same level, uncaught errors among them. A report has nothing
/// to say there, so any message counts as an error.
fn console(log: &str) -> Result<(), String> {
    match log.lines().find(|line| line.contains(":CONSOLE")) {
        None => Ok(()),
        Some(line) => Err(format!("the page said {}", &line[line.find('"').unwrap_or(0)..])),
    }
}

/// Screenshots of one width: neither missing nor blank, and the dark one darker than the light one.
fn check_pictures(browser: &Path, page: &Path, width: u32) -> Vec<Check> {
    let light = screenshot(browser, page, width, "light");
    let dark = screenshot(browser, page, width, "dark").and_then(|dark| match &light {
        Ok(light) if dark >= *light => Err(format!("not darker ({dark:.0} of 255) than in light colours ({light:.0})")),
        _ => Ok(()),
    });
    vec![
        (format!("report_shows_at_{width}_px_light"), light.map(|_| ())),
        (format!("report_shows_at_{width}_px_dark"), dark),
    ]
}

/// Takes a screenshot and returns its mean brightness, 0 to 255.
fn screenshot(browser: &Path, page: &Path, width: u32, scheme: &str) -> Result<f64, String> {
    let path = output_dir().join(format!("report-{width}-{scheme}.png"));
    let _ = fs::remove_file(&path); // An old picture must not pass for a new one.
    let number = if scheme == "dark" { 0 } else { 1 };
    let flags = [
        format!("--screenshot={}", path.display()),
        format!("--window-size={width},{HEIGHT}"),
        format!("--blink-settings=preferredColorScheme={number}"),
        "--hide-scrollbars".to_owned(),
    ];
    browse(browser, page, &flags)?;
    let picture = Picture::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if picture.width != width {
        return Err(format!("{}: {} px wide instead of {width}", path.display(), picture.width));
    }
    if picture.drawn < MIN_DRAWN {
        return Err(format!("{}: blank, {:.2}% of it is drawn", path.display(), picture.drawn * 100.0));
    }
    Ok(picture.brightness)
}

/// What a run of the browser left.
struct Output {
    document: String,
    log: String,
}

/// Opens the page in a fresh headless browser without a network. Output goes through files: a page may be larger than a pipe.
fn browse(browser: &Path, page: &Path, flags: &[String]) -> Result<Output, String> {
    let folder = output_dir().join("browser");
    empty(&folder)?;
    let (document, log) = (folder.join("document.html"), folder.join("log.txt"));
    let create = |path: &Path| File::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()));
    let mut command = Command::new(browser);
    command.args([
        "--headless=new",
        "--no-sandbox", // Containers and root have no sandbox; the page is our own.
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND", // The report must be whole without a network.
        "--enable-logging=stderr",
        "--v=0",
    ]);
    command.arg(format!("--virtual-time-budget={PAGE_TIME_MS}"));
    command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    command.args(flags).arg(page);
    command.stdin(Stdio::null()).stdout(create(&document)?).stderr(create(&log)?);
    let mut child = command.spawn().map_err(|error| format!("cannot start {}: {error}", browser.display()))?;
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < PATIENCE => sleep(Duration::from_millis(20)),
            Ok(None) => {
                let _ = child.kill().and_then(|()| child.wait());
                return Err(format!(
                    "the browser did not end within {} s; its log: {}",
                    PATIENCE.as_secs(),
                    log.display()
                ));
            }
            Err(error) => return Err(format!("lost the browser: {error}")),
        }
    };
    if !status.success() {
        return Err(format!("the browser failed ({status}); its log: {}", log.display()));
    }
    let read = |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let output = read(&document).and_then(|document| Ok(Output { document, log: read(&log)? }));
    output.map_err(|error| format!("cannot read {}: {error}", folder.display()))
}

/// Makes the folder, empty.
fn empty(folder: &Path) -> Result<(), String> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("cannot empty {}: {error}", folder.display()))?;
    }
    fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::{console, is_ready, is_right};

    #[test]
    fn a_page_is_ready_only_by_its_root_element() {
        assert!(is_ready("<!DOCTYPE html>\n<html lang=\"en\" data-ready=\"true\"><head>").is_ok());
        assert!(is_ready("<html lang=\"en\"><script>x = 'data-ready=\"true\"'</script>").is_err());
        assert!(is_ready("").is_err());
    }

    #[test]
    fn a_page_is_right_only_if_it_says_so() {
        assert!(is_right("<html data-mathematics=\"right\" data-ready=\"true\">").is_ok());
        assert!(is_right("<html data-mathematics=\"wrong by 1.2e-1\">").unwrap_err().contains("1.2e-1"));
        assert!(is_right("<html data-ready=\"true\">").is_err());
    }

    #[test]
    fn any_console_message_is_an_error() {
        let noise = "[1:2:1124/220541.1:ERROR:dbus/bus.cc:405] Failed to connect to the bus\n";
        assert_eq!(console(noise), Ok(()));
        let thrown =
            format!("{noise}[1:1:1124/220541.5:INFO:CONSOLE:1] \"Uncaught Error: boom\", source: report.html (1)\n");
        assert!(console(&thrown).unwrap_err().contains("boom"));
        assert!(console("[1:1:0101/1.5:INFO:CONSOLE(7)] \"boom\"").unwrap_err().contains("boom"));
    }
}
