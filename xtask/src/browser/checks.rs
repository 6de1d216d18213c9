//! What a report must do in a reader's hands, one line a check and a few lines what is done for it.
//!
//! To add one: a function that uses the [`Page`] as a reader would and says in its error what it saw, and a line in
//! [`CHECKS`]. The console must be silent after each of them, and each must fail on [`BROKEN`].

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use super::page::{CENTRE, DESKTOP, PHONE, Page, Place, View};
use crate::output_dir;

/// One check: its name, how the page is looked at when it opens, and what is done with it.
pub(crate) type Check = (&'static str, View, fn(&mut Page<'_>) -> Result<(), String>);

/// All checks of a report with embeddings in two and three dimensions. Where the first fails, there is nothing to judge the others by.
pub(crate) const CHECKS: &[Check] = &[
    ("report_opens_and_its_scripts_run", DESKTOP, scripts_run),
    ("report_console_is_silent", DESKTOP, console_is_silent),
    ("report_asks_for_nothing_outside", DESKTOP, asks_for_nothing_outside),
    ("report_has_every_section", DESKTOP, has_every_section),
    ("report_arithmetic_is_the_references", DESKTOP, arithmetic_is_right),
    ("report_fits_a_phone", PHONE, fits_its_width),
    ("report_fits_a_desktop", DESKTOP, fits_its_width),
    ("report_chart_shows_values_under_the_mouse", DESKTOP, charts_show_values),
    ("report_chart_shows_values_under_a_finger", PHONE, charts_show_values_to_a_finger),
    ("report_picture_names_the_point_under_the_mouse", DESKTOP, pictures_name_points),
    ("report_picture_names_the_point_under_a_finger", PHONE, pictures_name_points_to_a_finger),
    ("report_sphere_turns_by_dragging", DESKTOP, sphere_turns_by_dragging),
    ("report_sphere_turns_under_a_finger", PHONE, sphere_turns_under_a_finger),
    ("report_margin_and_lambda_change_the_plots", DESKTOP, mathematics_follows_its_sliders),
    ("report_sphere_turns_by_itself", View { still: false, ..DESKTOP }, sphere_turns_by_itself),
    ("report_is_still_with_reduced_motion", DESKTOP, nothing_moves),
    ("report_film_plays_and_follows_the_slider", DESKTOP, film_plays),
    ("report_view_buttons_change_the_pictures", DESKTOP, buttons_change_pictures),
    ("report_class_buttons_show_one_class", DESKTOP, class_buttons_work),
    ("report_two_classes_follow_the_mouse", DESKTOP, classes_follow_the_mouse),
    ("report_two_classes_follow_a_finger", PHONE, classes_follow_a_finger),
    ("report_two_classes_follow_keys", DESKTOP, classes_follow_keys),
    ("report_margin_follows_its_slider", DESKTOP, margin_follows_its_slider),
    ("report_theme_button_changes_colours", DESKTOP, theme_changes_colours),
    ("report_tab_reaches_every_control", DESKTOP, tab_reaches_every_control),
    ("report_keys_work", DESKTOP, keys_work),
    ("report_prints_sections_without_controls", View { print: true, ..DESKTOP }, prints_well),
    ("report_shows_at_1280_px", DESKTOP, shows_in_both_themes),
    ("report_shows_at_360_px", PHONE, shows_in_both_themes),
];

/// A page on which every check must fail, so that none of them passes whatever it sees.
pub(crate) const BROKEN: &str = r#"<!doctype html><meta name="viewport" content="width=device-width">
<style>@keyframes move { to { left: 9px } } i { position: relative; animation: move .3s infinite alternate }</style>
<body><i>x</i><div style="width: 2000px">wide</div><button id="theme">Dark</button><section id="empty"></section>
<img alt="" src="http://example.com/a.png"><input onkeydown="event.key === 'Tab' && event.preventDefault()"><button>unreachable</button>
<script>console.log("something"); throw new Error("boom")</script>"#;

/// Sections that a report of several trainings with embeddings has.
const SECTIONS: &[&str] = &["results", "mathematics", "embeddings", "curves", "network", "run"];

/// The text beside the pointer.
const TIP: &str = "document.querySelector('#tip:not([hidden])')?.innerText ?? ''";
const TIP_HAS_A_NUMBER: &str = "/\\d/.test(document.querySelector('#tip:not([hidden])')?.innerText)";

/// A way to point at a place of an element.
type PointAt = fn(&mut Page<'_>, &str, Place) -> Result<(), String>;

/// The share of pixels that must differ from the background.
const MIN_DRAWN: f64 = 0.01;

fn scripts_run(page: &mut Page<'_>) -> Result<(), String> {
    page.expect("a script stopped early", "document.documentElement.dataset.ready === 'true'")
}

fn console_is_silent(page: &mut Page<'_>) -> Result<(), String> {
    match page.said().first() {
        None => Ok(()),
        Some(message) => Err(format!("the page said: {message}")),
    }
}

fn asks_for_nothing_outside(page: &mut Page<'_>) -> Result<(), String> {
    let inside = |url: &&String| ["file:", "data:", "blob:"].iter().any(|scheme| url.starts_with(scheme));
    match page.requests().iter().find(|url| !inside(url)) {
        None => Ok(()),
        Some(url) => Err(format!("the page asked for {url}")),
    }
}

fn has_every_section(page: &mut Page<'_>) -> Result<(), String> {
    for id in SECTIONS {
        let found = format!("!!document.querySelector('section#{id} > h2')?.innerText.trim()");
        page.expect(&format!("section {id}"), &found)?;
        page.expect(&format!("link to section {id}"), &format!("!!document.querySelector('nav a[href=\"#{id}\"]')"))?;
        page.expect(&format!("section {id} is empty"), &format!("document.getElementById('{id}').offsetHeight > 100"))?;
    }
    Ok(())
}

/// The page compares the loss and the gradients it draws with those of the f64 reference, and notes what it found.
fn arithmetic_is_right(page: &mut Page<'_>) -> Result<(), String> {
    page.expect("loss and gradients differ", "document.documentElement.dataset.mathematics === 'right'")
}

/// Nothing makes the page wider than its window.
fn fits_its_width(page: &mut Page<'_>) -> Result<(), String> {
    let wide = page.texts(
        "(() => { const width = document.documentElement.clientWidth;
           if (document.documentElement.scrollWidth <= width) return [];
           return [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > width + 1)
             .map((e) => `<${e.localName} class=\"${e.getAttribute('class') ?? ''}\">, to ${Math.round(e.getBoundingClientRect().right)} px`)
             .concat(`the page, to ${document.documentElement.scrollWidth} px`); })()",
    )?;
    match wide.first() {
        None => Ok(()),
        Some(first) => Err(format!("wider than the window: {first}")),
    }
}

/// Selectors of all elements that have this attribute, by its value.
fn each(page: &mut Page<'_>, element: &str, attribute: &str) -> Result<Vec<String>, String> {
    let values =
        format!("[...document.querySelectorAll('{element}[{attribute}]')].map((e) => e.getAttribute('{attribute}'))");
    let found = page.texts(&values)?;
    if found.is_empty() {
        return Err(format!("the page has no {element}[{attribute}]"));
    }
    Ok(found.iter().map(|value| format!("{element}[{attribute}={}]", json!(value))).collect())
}

fn charts_show_values(page: &mut Page<'_>) -> Result<(), String> {
    for chart in each(page, "svg", "data-chart")? {
        page.hover(&chart, CENTRE)?;
        page.wait_until(&format!("no value over {chart}"), TIP_HAS_A_NUMBER)?;
        page.hover("h1", CENTRE)?;
        page.wait_until(&format!("the value of {chart} stays"), "document.getElementById('tip').hidden")?;
    }
    Ok(())
}

fn charts_show_values_to_a_finger(page: &mut Page<'_>) -> Result<(), String> {
    for chart in each(page, "svg", "data-chart")? {
        page.tap(&chart, CENTRE)?;
        page.wait_until(&format!("no value over {chart}"), TIP_HAS_A_NUMBER)?;
        page.expect("the values do not fit the window", "(() => { const b = document.getElementById('tip').getBoundingClientRect(); return b.left >= 0 && b.right <= innerWidth; })()")?;
    }
    Ok(())
}

/// Somewhere on each picture there is a point that tells its class and its angle.
fn pictures_name_points(page: &mut Page<'_>) -> Result<(), String> {
    point_at_pictures(page, |page, picture, place| page.hover(picture, place))
}

fn pictures_name_points_to_a_finger(page: &mut Page<'_>) -> Result<(), String> {
    point_at_pictures(page, |page, picture, place| page.tap(picture, place))
}

fn point_at_pictures(page: &mut Page<'_>, point: PointAt) -> Result<(), String> {
    'pictures: for picture in each(page, "canvas", "data-embedding")? {
        for ring in 1..12 {
            for turn in 0..8 {
                let (far, angle) = (0.04 * f64::from(ring), std::f64::consts::FRAC_PI_4 * f64::from(turn));
                point(page, &picture, (0.5 + far * angle.cos(), 0.5 + far * angle.sin()))?;
                let told = page.text(TIP)?;
                if told.contains(|c: char| c.is_ascii_digit()) && told.contains('°') {
                    continue 'pictures;
                }
            }
        }
        return Err(format!("no place of {picture} tells a class and an angle"));
    }
    Ok(())
}

const SPHERE: &str = "[data-dim='3'] canvas";
const PLANE: &str = "[data-dim='2'] canvas";

/// What is drawn on a canvas, as a short text.
fn pixels(canvas: &str) -> String {
    format!(
        "(() => {{ let hash = 0; const text = document.querySelector({}).toDataURL();
          for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
          return String(hash); }})()",
        json!(canvas)
    )
}

/// Does something to the page, which must change what is drawn on a canvas.
fn redraws(
    page: &mut Page<'_>,
    canvas: &str,
    what: &str,
    act: impl FnOnce(&mut Page<'_>) -> Result<(), String>,
) -> Result<(), String> {
    changes(page, &pixels(canvas), &format!("{what} does not change {canvas}"), act)
}

/// Does something to the page, which must change the text that an expression comes to; else `what`.
fn changes(
    page: &mut Page<'_>,
    state: &str,
    what: &str,
    act: impl FnOnce(&mut Page<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let before = json!(page.text(state)?);
    act(page)?;
    page.wait_until(what, &format!("{state} !== {before}"))
}

/// Embedding and class weights of the mathematics.
const HANDLES: [&str; 3] = ["embedding", "one", "two"];

fn mathematics_follows_its_sliders(page: &mut Page<'_>) -> Result<(), String> {
    for place in 1..=2 {
        // The first settings of the section: m, then λ.
        let slider = format!(".maths .settings label:nth-of-type({place}) input");
        page.focus(&slider)?;
        let plots = "document.querySelector('.maths .plots').innerHTML";
        let start = page.value(&format!("Number(document.querySelector('{slider}').value)"))?;
        let key = if start.as_f64() > Some(0.0) { "ArrowLeft" } else { "ArrowRight" };
        changes(page, plots, &format!("{key} on {slider} changes no plot"), |page| page.press(key))?;
    }
    Ok(())
}

fn sphere_turns_by_dragging(page: &mut Page<'_>) -> Result<(), String> {
    redraws(page, SPHERE, "dragging", |page| page.drag(SPHERE, (0.3, 0.5), (0.7, 0.6)))
}

fn sphere_turns_under_a_finger(page: &mut Page<'_>) -> Result<(), String> {
    redraws(page, SPHERE, "a finger", |page| page.swipe(SPHERE, (0.3, 0.5), (0.7, 0.5)))
}

fn sphere_turns_by_itself(page: &mut Page<'_>) -> Result<(), String> {
    page.hover("h1", CENTRE)?;
    let scroll = format!("document.querySelector(\"{SPHERE}\").scrollIntoView()");
    redraws(page, SPHERE, "time", |page| page.value(&scroll).map(drop))?;
    redraws(page, SPHERE, "more time", |_| Ok(()))
}

/// Nothing has changed after half a second, wherever the reader is on the page.
fn nothing_moves(page: &mut Page<'_>) -> Result<(), String> {
    page.expect("something is animated", "document.getAnimations().length === 0")?;
    let state = "[...document.querySelectorAll('canvas')].map((c) => c.toDataURL())\
                 .concat([...document.querySelectorAll('input')].map((i) => i.value), document.body.innerText).join()";
    for section in each(page, "section", "id")? {
        page.value(&format!("document.querySelector({}).scrollIntoView()", json!(section)))?;
        page.settle()?;
        page.value(&format!("window.before = {state}"))?;
        sleep(Duration::from_millis(500));
        page.expect(&format!("something moves in {section}"), &format!("window.before === {state}"))?;
    }
    Ok(())
}

/// Keys on the slider seek, the button plays on and pauses, and paper shows the end.
fn film_plays(page: &mut Page<'_>) -> Result<(), String> {
    for picture in [PLANE, SPHERE] {
        let block = picture.trim_end_matches(" canvas");
        let slider = format!("{block} [data-time]");
        let epoch = format!("Number(document.querySelector(\"{slider}\").value)");
        page.value(&format!("document.querySelector(\"{block}\").scrollIntoView()"))?;
        page.focus(&slider)?;
        redraws(page, picture, "Home on the slider", |page| page.press("Home"))?;
        page.wait_until("Home leads to the first frame", &format!("{epoch} === 0"))?;
        page.press("ArrowRight")?;
        page.wait_until("ArrowRight moves the film on", &format!("{epoch} > 0"))?;
        page.value(&format!("window.asked = {epoch}"))?;
        page.click(&format!("{block} [data-play]"))?;
        page.wait_until("the button plays the film", &format!("{epoch} > window.asked"))?;
        page.click(&format!("{block} [data-play]"))?;
        page.value(&format!("window.asked = {epoch}"))?;
        sleep(Duration::from_millis(200));
        page.expect("the button pauses the film", &format!("{epoch} === window.asked"))?;
    }
    page.call("Page.printToPDF", json!({}))?;
    let ends = "[...document.querySelectorAll('[data-time]')].every((slider) => slider.value === slider.max)";
    page.expect("paper shows the end of the films", ends)
}

fn buttons_change_pictures(page: &mut Page<'_>) -> Result<(), String> {
    for picture in [PLANE, SPHERE] {
        let block = picture.trim_end_matches(" canvas");
        for choice in ["data-view", "data-mark"] {
            // Away from the picture's first choice, and back to it.
            for _ in 0..2 {
                let button = format!("{block} [{choice}][aria-pressed='false']");
                redraws(page, picture, &button, |page| page.click(&button))?;
                let pressed =
                    format!("document.querySelectorAll(\"{block} [{choice}][aria-pressed='true']\").length === 1");
                page.expect("one of the buttons is pressed", &pressed)?;
            }
        }
    }
    Ok(())
}

fn class_buttons_work(page: &mut Page<'_>) -> Result<(), String> {
    for button in each(page, "button", "data-class")? {
        for picture in [PLANE, SPHERE] {
            redraws(page, picture, &button, |page| page.click(&button))?;
        }
        page.expect(
            "the second click shows all again",
            "!document.querySelector(\"[data-class][aria-pressed='true']\")",
        )?;
    }
    Ok(())
}

fn theme_changes_colours(page: &mut Page<'_>) -> Result<(), String> {
    let paper = "getComputedStyle(document.body).backgroundColor";
    let light = page.text(paper)?;
    for picture in [PLANE, SPHERE] {
        redraws(page, picture, "the theme button", |page| page.click("#theme"))?;
    }
    page.expect("two clicks lead back", &format!("{paper} === '{light}'"))?;
    page.click("#theme")?;
    page.expect("the paper changes", &format!("{paper} !== '{light}'"))?;
    page.look(View { dark: true, ..DESKTOP })?;
    page.click("#theme")?;
    page.expect("the button's choice stands above the system's", &format!("{paper} === '{light}'"))
}

/// Whether what has the focus, or something inside it, looks otherwise without it.
const FOCUS_SHOWS: &str = "(() => {
    const focused = document.activeElement;
    const look = () => [focused, ...focused.querySelectorAll('*')].map((e) => getComputedStyle(e))
      .map((s) => [s.outlineStyle, s.boxShadow, s.stroke, s.strokeWidth, s.fill, s.backgroundColor].join()).join(';');
    const on = look();
    focused.blur();
    const off = look();
    focused.focus({ focusVisible: true, preventScroll: true });
    return on !== off; })()";

/// Tab comes to everything that can be used, and what has the focus shows it.
fn tab_reaches_every_control(page: &mut Page<'_>) -> Result<(), String> {
    // Of a group of radio buttons, Tab comes to the chosen one.
    let names = page.texts(
        "[...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')]
           .filter((e) => e.tabIndex >= 0 && !e.disabled && e.checkVisibility({ visibilityProperty: true }))
           .filter((e) => e.type !== 'radio' || e.checked)
           .map((e, i) => { e.setAttribute('data-stop', i); return e.outerHTML.slice(0, 90); })",
    )?;
    let mut reached = BTreeSet::new();
    for _ in 0..2 * names.len() + 10 {
        page.press("Tab")?;
        if let Ok(stop) = page.text("document.activeElement.dataset?.stop ?? ''")?.parse::<usize>() {
            page.expect(
                &format!("the focus cannot be seen on {}", names.get(stop).map_or("", String::as_str)),
                FOCUS_SHOWS,
            )?;
            reached.insert(stop);
        }
        if reached.len() == names.len() {
            break;
        }
    }
    match (0..names.len()).find(|stop| !reached.contains(stop)) {
        Some(missing) => Err(format!("Tab does not reach {}", names[missing])),
        None if names.len() < 10 => Err(format!("expected ten controls or more, found {}", names.len())),
        None => Ok(()),
    }
}

fn keys_work(page: &mut Page<'_>) -> Result<(), String> {
    for key in ["Enter", " "] {
        page.focus("#theme")?;
        redraws(page, PLANE, &format!("key `{key}` on the theme button"), |page| page.press(key))?;
    }
    page.focus(SPHERE)?;
    for key in ["ArrowLeft", "ArrowUp"] {
        redraws(page, SPHERE, key, |page| page.press(key))?;
    }
    for element in [PLANE, "svg[data-chart]"] {
        page.focus(element)?;
        page.press("ArrowRight")?;
        page.wait_until(&format!("ArrowRight shows no value of {element}"), TIP_HAS_A_NUMBER)?;
        page.press("Escape")?;
        page.expect("Escape hides the value", "document.getElementById('tip').hidden")?;
    }
    Ok(())
}

/// The embedding in the plane of two classes, and what the page tells of it for each loss.
const EMBEDDING: &str = ".handle.embedding";
const TOLD_OF_CLASSES: &str = "[...document.querySelectorAll('.readout')].map((e) => e.innerText)";

/// Loss and gradients of every loss are told anew after something was done.
fn classes_follow(page: &mut Page<'_>, act: impl Fn(&mut Page<'_>) -> Result<(), String>) -> Result<(), String> {
    let before = page.texts(TOLD_OF_CLASSES)?;
    act(page)?;
    let after = page.texts(TOLD_OF_CLASSES)?;
    if before.is_empty() || before.iter().zip(&after).any(|(before, after)| before == after) {
        return Err(format!("expected other numbers for every loss, found {after:?}"));
    }
    Ok(())
}

fn classes_follow_the_mouse(page: &mut Page<'_>) -> Result<(), String> {
    // A weight's length counts for a loss that scores by it, its direction for all.
    HANDLES
        .iter()
        .try_for_each(|kind| classes_follow(page, |page| page.drag(&format!(".handle.{kind}"), CENTRE, (1.4, 1.2))))
}

fn classes_follow_a_finger(page: &mut Page<'_>) -> Result<(), String> {
    classes_follow(page, |page| page.swipe(EMBEDDING, CENTRE, (-1.0, 0.2)))
}

fn classes_follow_keys(page: &mut Page<'_>) -> Result<(), String> {
    page.focus(EMBEDDING)?;
    for key in ["ArrowLeft", "ArrowUp"] {
        classes_follow(page, |page| page.press(key))?;
    }
    Ok(())
}

fn margin_follows_its_slider(page: &mut Page<'_>) -> Result<(), String> {
    page.focus("#maths input[type=range]")?;
    page.press("ArrowLeft")?;
    let title = page.text("document.querySelector('#maths .plot .title').textContent")?;
    let told = page.text("document.querySelector('#maths output').textContent")?;
    if told != "3" || !title.contains("m = 3") {
        return Err(format!("expected m = 3 after ArrowLeft, found {told} and `{title}`"));
    }
    Ok(())
}

fn prints_well(page: &mut Page<'_>) -> Result<(), String> {
    has_every_section(page)?;
    let controls = "[...document.querySelectorAll('button, input, select, nav')].filter((e) => e.checkVisibility()).map((e) => e.outerHTML.slice(0, 90))";
    if let Some(control) = page.texts(controls)?.first() {
        return Err(format!("paper cannot be pressed: {control}"));
    }
    let paper = "getComputedStyle(document.body).backgroundColor";
    page.expect("paper is white", &format!("{paper} === 'rgb(255, 255, 255)'"))?;
    page.look(View { dark: true, ..DESKTOP })?;
    page.call("Page.printToPDF", json!({}))?;
    page.expect("the screen is dark again after printing", &format!("{paper} !== 'rgb(255, 255, 255)'"))
}

/// Every section shows something, and the dark theme is the darker one. Leaves pictures of the whole page.
fn shows_in_both_themes(page: &mut Page<'_>) -> Result<(), String> {
    let width = page.value("innerWidth")?.as_u64().unwrap_or_default() as u32;
    let mut brightness = Vec::new();
    for (theme, dark) in [("light", false), ("dark", true)] {
        page.look(View { dark, ..if width < 600 { PHONE } else { DESKTOP } })?;
        let file = output_dir().join(format!("report-{width}-{theme}.png"));
        let whole = page.picture(None, Some(&file))?;
        if whole.width != width {
            return Err(format!("{}: {} px wide instead of {width}", file.display(), whole.width));
        }
        brightness.push(whole.brightness);
        for section in each(page, "section", "id")? {
            let drawn = page.picture(Some(&section), None)?.drawn;
            if drawn < MIN_DRAWN {
                return Err(format!("{theme}: {section} is blank, {:.2}% of it is drawn", drawn * 100.0));
            }
        }
    }
    let [light, dark] = brightness[..] else { return Err("expected two pictures".to_owned()) };
    if dark < light / 2.0 { Ok(()) } else { Err(format!("dark is {dark:.0} of 255 bright, light {light:.0}")) }
}
