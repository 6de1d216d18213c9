//! A page in the browser, and what a reader can do with it: look, point, press, drag, tap, type.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::devtools::Browser;
use super::picture::Picture;

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// CSS pixels.
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Device pixels in a CSS pixel.
    pub(crate) density: f64,
    /// A phone: touch, and a viewport that follows the page's own wish.
    pub(crate) phone: bool,
    pub(crate) dark: bool,
    /// The reader asked for reduced motion.
    pub(crate) still: bool,
    pub(crate) print: bool,
}

/// A wide window without motion, so that two pictures of one state are equal.
pub(crate) const DESKTOP: View =
    View { width: 1280, height: 900, density: 1.0, phone: false, dark: false, still: true, print: false };
/// A small phone.
pub(crate) const PHONE: View = View { width: 360, height: 740, density: 3.0, phone: true, ..DESKTOP };

/// A place inside an element, as fractions of its width and height.
pub(crate) type Place = (f64, f64);
pub(crate) const CENTRE: Place = (0.5, 0.5);

/// A page that is open in a browser.
pub(crate) struct Page<'a> {
    browser: &'a mut Browser,
    target: String,
    session: String,
    url: String,
    density: f64,
    said: Vec<String>,
    requests: Vec<String>,
}

impl<'a> Page<'a> {
    /// Opens a file in a tab of its own and waits until it has loaded.
    pub(crate) fn open(browser: &'a mut Browser, file: &Path, view: View) -> Result<Self, String> {
        browser.take_events(); // What other pages said is not this one's.
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let target = text(&browser.call(None, "Target.createTarget", json!({ "url": "about:blank" }))?["targetId"]);
        let attach = json!({ "targetId": target, "flatten": true });
        let session = text(&browser.call(None, "Target.attachToTarget", attach)?["sessionId"]);
        let url = format!("file://{}", file.display());
        let mut page = Page { browser, target, session, url, density: 1.0, said: Vec::new(), requests: Vec::new() };
        for domain in ["Page", "Runtime", "Log", "Network", "Inspector"] {
            page.call(&format!("{domain}.enable"), json!({}))?;
        }
        page.look(view)?;
        page.load()?;
        Ok(page)
    }

    /// Loads the page, again if it is there already.
    fn load(&mut self) -> Result<(), String> {
        let reply = self.call("Page.navigate", json!({ "url": self.url }))?;
        if let Some(error) = reply["errorText"].as_str() {
            return Err(format!("{}: {error}", self.url));
        }
        self.browser.wait_for("Page.loadEventFired")
    }

    /// Closes the tab.
    pub(crate) fn close(self) -> Result<(), String> {
        self.browser.call(None, "Target.closeTarget", json!({ "targetId": self.target })).map(drop)
    }

    /// Changes how the page is looked at.
    pub(crate) fn look(&mut self, view: View) -> Result<(), String> {
        self.density = view.density;
        let View { width, height, density, phone, .. } = view;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": density, "mobile": phone });
        self.call("Emulation.setDeviceMetricsOverride", metrics)?;
        self.call("Emulation.setTouchEmulationEnabled", json!({ "enabled": phone }))?;
        let media = json!({
            "media": if view.print { "print" } else { "" },
            "features": [
                { "name": "prefers-color-scheme", "value": if view.dark { "dark" } else { "light" } },
                { "name": "prefers-reduced-motion", "value": if view.still { "reduce" } else { "no-preference" } },
            ],
        });
        self.call("Emulation.setEmulatedMedia", media)?;
        self.settle()
    }

    /// What the page, and the browser about it, said on the console.
    pub(crate) fn said(&mut self) -> &[String] {
        self.read_events();
        &self.said
    }

    /// Addresses of everything the page asked for.
    pub(crate) fn requests(&mut self) -> &[String] {
        self.read_events();
        &self.requests
    }

    fn read_events(&mut self) {
        for event in self.browser.take_events() {
            if event["sessionId"] != self.session.as_str() {
                continue;
            }
            let found = &event["params"];
            match event["method"].as_str() {
                Some("Runtime.consoleAPICalled") => self.said.push(message(&found["args"][0])),
                Some("Runtime.exceptionThrown") => self.said.push(thrown(&found["exceptionDetails"])),
                Some("Log.entryAdded") => self.said.push(message(&found["entry"]["text"])),
                Some("Network.requestWillBeSent") => self.requests.push(message(&found["request"]["url"])),
                _ => {}
            }
        }
    }

    /// The value of a script's expression; of a promise, what it brings.
    pub(crate) fn value(&mut self, expression: &str) -> Result<Value, String> {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut reply = self.call("Runtime.evaluate", parameters)?;
        match reply.get("exceptionDetails") {
            Some(details) => Err(format!("`{expression}`: {}", thrown(details))),
            None => Ok(reply["result"]["value"].take()),
        }
    }

    /// The text that an expression comes to.
    pub(crate) fn text(&mut self, expression: &str) -> Result<String, String> {
        Ok(message(&self.value(expression)?))
    }

    /// The texts that an expression comes to.
    pub(crate) fn texts(&mut self, expression: &str) -> Result<Vec<String>, String> {
        match self.value(expression)? {
            Value::Array(values) => Ok(values.iter().map(message).collect()),
            other => Err(format!("`{expression}`: expected an array, found {other}")),
        }
    }

    /// Fails with `what` unless the expression is true.
    pub(crate) fn expect(&mut self, what: &str, expression: &str) -> Result<(), String> {
        match self.value(expression)? {
            Value::Bool(true) => Ok(()),
            other => Err(format!("{what}: `{expression}` is {other}")),
        }
    }

    /// Waits until the expression is true: as long as the check may take.
    pub(crate) fn wait_until(&mut self, what: &str, expression: &str) -> Result<(), String> {
        while self.value(expression).map_err(|error| format!("{what}: {error}"))? != Value::Bool(true) {
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until the page has drawn what was done to it.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))").map(drop)
    }

    /// Scrolls to an element and returns the point of the window at a place inside it.
    fn point(&mut self, selector: &str, (x, y): Place) -> Result<(f64, f64), String> {
        let script = format!(
            "(() => {{ const e = document.querySelector({}); if (!e) return null;
              e.scrollIntoView({{ block: 'center', behavior: 'instant' }});
              const b = e.getBoundingClientRect(); return [b.x + b.width * {x}, b.y + b.height * {y}]; }})()",
            json!(selector)
        );
        let found = self.value(&script)?;
        match (found[0].as_f64(), found[1].as_f64()) {
            (Some(x), Some(y)) => {
                // The page hears of the scrolling before it hears of what is done next, as from a person.
                self.settle()?;
                Ok((x, y))
            }
            _ => Err(format!("the page has no `{selector}`")),
        }
    }

    fn mouse(&mut self, kind: &str, (x, y): (f64, f64), pressed: bool) -> Result<(), String> {
        let button = if pressed || kind != "mouseMoved" { "left" } else { "none" };
        let clicks = u8::from(kind != "mouseMoved");
        let event = json!({ "type": kind, "x": x, "y": y, "button": button, "buttons": u8::from(pressed), "clickCount": clicks });
        self.call("Input.dispatchMouseEvent", event).map(drop)
    }

    /// Moves the mouse to a place inside an element.
    pub(crate) fn hover(&mut self, selector: &str, place: Place) -> Result<(), String> {
        let point = self.point(selector, place)?;
        self.mouse("mouseMoved", point, false)
    }

    /// Clicks the middle of an element.
    pub(crate) fn click(&mut self, selector: &str) -> Result<(), String> {
        self.drag(selector, CENTRE, CENTRE)
    }

    /// Presses the mouse at one place of an element, moves it to another in four steps, and lets it go.
    pub(crate) fn drag(&mut self, selector: &str, from: Place, to: Place) -> Result<(), String> {
        let (start, end) = (self.point(selector, from)?, self.point(selector, to)?);
        self.mouse("mouseMoved", start, false)?;
        self.mouse("mousePressed", start, true)?;
        if start != end {
            for step in 1..=4 {
                let done = f64::from(step) / 4.0;
                let between = (start.0 + (end.0 - start.0) * done, start.1 + (end.1 - start.1) * done);
                self.mouse("mouseMoved", between, true)?;
            }
        }
        self.mouse("mouseReleased", end, false)?;
        self.settle()
    }

    /// Taps a place inside an element with a finger.
    pub(crate) fn tap(&mut self, selector: &str, place: Place) -> Result<(), String> {
        let (x, y) = self.point(selector, place)?;
        self.call("Input.dispatchTouchEvent", json!({ "type": "touchStart", "touchPoints": [{ "x": x, "y": y }] }))?;
        self.call("Input.dispatchTouchEvent", json!({ "type": "touchEnd", "touchPoints": [] }))?;
        self.settle()
    }

    /// Puts a finger on one place of an element, moves it to another in four steps, and lifts it.
    pub(crate) fn swipe(&mut self, selector: &str, from: Place, to: Place) -> Result<(), String> {
        let (end, start) = (self.point(selector, to)?, self.point(selector, from)?);
        let touch = |kind: &str, x: f64, y: f64| json!({ "type": kind, "touchPoints": [{ "x": x, "y": y }] });
        self.call("Input.dispatchTouchEvent", touch("touchStart", start.0, start.1))?;
        for step in 1..=4 {
            let done = f64::from(step) / 4.0;
            let (x, y) = (start.0 + (end.0 - start.0) * done, start.1 + (end.1 - start.1) * done);
            self.call("Input.dispatchTouchEvent", touch("touchMove", x, y))?;
        }
        self.call("Input.dispatchTouchEvent", json!({ "type": "touchEnd", "touchPoints": [] }))?;
        self.settle()
    }

    /// Gives an element the focus, as a Tab would.
    pub(crate) fn focus(&mut self, selector: &str) -> Result<(), String> {
        self.point(selector, CENTRE)?;
        self.value(&format!("document.querySelector({}).focus({{ focusVisible: true }})", json!(selector))).map(drop)
    }

    /// Presses a key and lets it go: `Tab`, `Enter`, ` `, `ArrowLeft`, …
    pub(crate) fn press(&mut self, key: &str) -> Result<(), String> {
        let (code, number, text) = match key {
            "Tab" => ("Tab", 9, ""),
            "Enter" => ("Enter", 13, "\r"),
            " " => ("Space", 32, " "),
            "Escape" => ("Escape", 27, ""),
            "Home" => ("Home", 36, ""),
            "ArrowLeft" => ("ArrowLeft", 37, ""),
            "ArrowUp" => ("ArrowUp", 38, ""),
            "ArrowRight" => ("ArrowRight", 39, ""),
            "ArrowDown" => ("ArrowDown", 40, ""),
            other => return Err(format!("this harness knows no key `{other}`")),
        };
        let mut event = json!({ "type": "keyDown", "key": key, "code": code, "windowsVirtualKeyCode": number });
        if !text.is_empty() {
            event["text"] = text.into();
        }
        self.call("Input.dispatchKeyEvent", event.clone())?;
        event["type"] = "keyUp".into();
        self.call("Input.dispatchKeyEvent", event)?;
        self.settle()
    }

    /// A picture of an element, or of the whole page; in CSS pixels, whatever the density.
    pub(crate) fn picture(&mut self, selector: Option<&str>, file: Option<&Path>) -> Result<Picture, String> {
        let element = json!(selector.unwrap_or("html"));
        let script = format!(
            "(() => {{ const b = document.querySelector({element}).getBoundingClientRect();
              return [b.x + scrollX, b.y + scrollY, b.width, b.height]; }})()"
        );
        let found = self.value(&script)?;
        let clip =
            json!({ "x": found[0], "y": found[1], "width": found[2], "height": found[3], "scale": 1.0 / self.density });
        let shot = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let reply = self.call("Page.captureScreenshot", shot)?;
        let png = BASE64_STANDARD.decode(reply["data"].as_str().unwrap_or_default());
        let png = png.map_err(|error| format!("the screenshot is no base64: {error}"))?;
        if let Some(file) = file {
            std::fs::write(file, &png).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        }
        Picture::decode(&png).map_err(|error| format!("the screenshot is no picture: {error}"))
    }

    /// Sends a command of the protocol to this page.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Result<Value, String> {
        self.browser.call(Some(&self.session), method, parameters)
    }
}

/// What was thrown, in one line.
fn thrown(details: &Value) -> String {
    let exception = &details["exception"];
    let found = exception["description"].as_str().or(exception["value"].as_str()).or(details["text"].as_str());
    found.unwrap_or("something without a name").lines().next().unwrap_or_default().to_owned()
}

/// A value as text: strings without quotes, objects of the browser by their description.
fn message(value: &Value) -> String {
    let text = value.as_str().or(value["value"].as_str()).or(value["description"].as_str());
    text.map_or_else(|| value.to_string(), str::to_owned)
}
