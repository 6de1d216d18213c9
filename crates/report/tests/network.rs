//! The network's section, graph and tables, of networks with and without equal units.

mod common;

use common::{assert_well_formed, report, written};
use sphereface_report::{LayerInfo, LayerKind, NetworkInfo};
use std::collections::BTreeSet;

/// Stages of these numbers of units, in SphereFace's shape.
fn network(units: &[usize], timed: bool) -> NetworkInfo {
    let mut layers: Vec<LayerInfo> = Vec::new();
    let mut add = |name: String, kind: LayerKind, skip: Option<String>, output: [usize; 3]| {
        let before = layers.last().map(|layer| layer.name.clone());
        let number = layers.len() as u64;
        let parameters = if number == 0 { 0 } else { output[2] as u64 * 9 };
        layers.push(LayerInfo {
            name,
            kind,
            prelu: matches!(kind, LayerKind::Convolution { .. }),
            reads: before.into_iter().chain(skip).collect(),
            output,
            parameters,
            multiply_adds: 1000 * parameters,
            activation_bytes: 4 * output.iter().product::<usize>() as u64,
            parameter_bytes: 4 * parameters,
            time: timed.then_some(0.0),
        });
    };
    add("input".to_string(), LayerKind::Input, None, [28, 28, 1]);
    for (stage, &units) in units.iter().enumerate() {
        let output = [14 >> stage, 14 >> stage, 64 << stage];
        let name = |layer: &str| format!("stage{}.{layer}", stage + 1);
        add(name("conv"), LayerKind::Convolution { size: 3, stride: 2 }, None, output);
        let mut entering = name("conv");
        for unit in 1..=units {
            let plain = LayerKind::Convolution { size: 3, stride: 1 };
            add(name(&format!("unit{unit}.conv1")), plain, None, output);
            add(name(&format!("unit{unit}.conv2")), plain, Some(entering), output);
            entering = name(&format!("unit{unit}.conv2"));
        }
    }
    add("embedding".to_string(), LayerKind::Linear, None, [1, 1, 3]);
    add("classifier".to_string(), LayerKind::Classifier, None, [1, 1, 10]);
    if timed {
        let all = (layers.len() * (layers.len() + 1) / 2) as f64;
        layers.iter_mut().enumerate().for_each(|(index, layer)| layer.time = Some((index + 1) as f64 / all));
    }
    NetworkInfo {
        name: "net \"<&\\".to_string(),
        summary: "Layers".to_string(),
        parameters: layers.iter().map(|layer| layer.parameters).sum(),
        multiply_adds: layers.iter().map(|layer| layer.multiply_adds).sum(),
        layers,
    }
}

/// Numbers in the attributes `data-layer` of a text.
fn numbers(text: &str) -> Vec<usize> {
    let values = text.split("data-layer=\"").skip(1).filter_map(|rest| rest.split('"').next());
    values.map(|value| value.parse().expect("a number")).collect()
}

#[test]
fn equal_units_are_drawn_once_with_their_number() {
    for (units, boxes, times) in [
        (&[0, 0, 0, 0][..], 3 + 4, &[][..]),
        (&[1, 1, 1, 1], 3 + 12, &[]),
        (&[1, 2, 4, 1], 3 + 12, &["×2", "×4"]),
        (&[3, 8, 16, 3], 3 + 12, &["×3", "×8", "×16", "×3"]),
    ] {
        let svg = network(units, true).svg().expect("a sound network");
        assert_well_formed("network.svg", &svg);
        assert_eq!(numbers(&svg), (0..boxes).collect::<Vec<_>>(), "{units:?}");
        let repeated: Vec<&str> = svg.split('>').filter(|text| text.starts_with('×')).collect();
        let repeated: Vec<&str> = repeated.iter().filter_map(|text| text.split('<').next()).collect();
        assert_eq!(repeated, times, "{units:?}");
        let stages = (1..=4).filter(|stage| svg.contains(&format!(">Stage {stage}<"))).count();
        assert_eq!(stages, 4);
        assert!(svg.contains(">14×14×64<") && svg.contains(">embedding 3<") && svg.contains(">10 class weights<"));
        assert!(!svg.contains("href") && !svg.contains("NaN"), "a file leads nowhere");
    }
}

#[test]
fn every_box_of_the_page_has_its_row_and_rows_add_up() {
    let mut report = report(50);
    report.network = network(&[1, 2, 4, 1], true);
    let page = report.html().expect("a sound report has a page");
    let (graph, table) = page.split_once("<table class=\"layers\">").expect("the page has a layer table");
    let table = table.split_once("</table>").expect("the table ends").0;
    let graph = graph.rsplit_once("class=\"network\"").expect("the page has the graph").1;
    assert_eq!(numbers(graph), numbers(table));
    for number in numbers(table) {
        assert!(
            graph.contains(&format!("href=\"#layer-{number}\"")) && table.contains(&format!("id=\"layer-{number}\""))
        );
    }
    let (rows, sum) = table.split_once("class=\"sum\"").expect("the table has sums");
    let cells = |text: &str, label: &str| -> Vec<String> {
        let opening = format!("data-label=\"{label}\">");
        let cells = text.split(&opening).skip(1);
        cells.filter_map(|rest| rest.split("</td>").next()).map(str::to_string).collect()
    };
    let parameters: u64 =
        cells(rows, "Parameters").iter().map(|cell| cell.replace(',', "").parse::<u64>().expect("a count")).sum();
    assert_eq!(report.network.parameters, parameters);
    assert_eq!(cells(sum, "Parameters")[0].replace(',', ""), parameters.to_string());
    assert!(cells(sum, "Share of time")[0].contains("100.0%"));
    for notation in ["[3×3, 64] × 1, S2", "[3×3, 256; 3×3, 256] × 4"] {
        assert!(table.contains(notation), "{notation}");
    }
    for term in ["conv 3×3", "stride 2", "PReLU", "residual unit", "class weights"] {
        assert!(page.contains(&format!("<dt>{term}</dt>")), "{term}");
    }
}

#[test]
fn what_was_not_measured_is_not_shown() {
    let mut report = report(50);
    report.network = network(&[1, 0], false);
    let page = report.html().expect("a sound report has a page");
    assert!(page.contains("id=\"network\"") && !page.contains("Share of time"));
    assert!(!report.network.table().contains("time"));
    report.network.layers.clear();
    let page = report.html().expect("a sound report has a page");
    assert!(!page.contains("id=\"network\"") && !page.contains("#network"));
    assert!(written(&report).iter().all(|(name, _)| !name.starts_with("network")));
}

#[test]
fn tables_and_graphs_lie_beside_the_page() {
    let mut report = report(50);
    report.network = network(&[3, 8, 16, 3], true);
    let files = written(&report);
    let content = |wanted: &str| &files.iter().find(|(name, _)| name == wanted).expect(wanted).1;
    let (table, info) = (content("network.txt"), &report.network);
    assert_eq!(*table, info.table());
    assert!(info.layers.iter().all(|layer| table.lines().any(|line| line.starts_with(&layer.name))));
    for line in table.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let sum = table.lines().find(|line| line.starts_with("all ")).expect("a line of sums");
    assert!(sum.ends_with("100.0%") && sum.replace(',', "").contains(&info.parameters.to_string()), "{sum}");
    assert_well_formed("network.svg", content("network.svg"));
    assert_eq!(*content("network.dot"), info.dot());
}

#[test]
fn dot_holds_every_layer_and_edge_in_graphviz_syntax() {
    for units in [&[0, 0][..], &[1, 2, 4, 1], &[3, 8, 16, 3]] {
        let info = network(units, true);
        let (nodes, edges) = parse_dot(&info.dot());
        let names: BTreeSet<String> = info.layers.iter().map(|layer| layer.name.clone()).collect();
        assert_eq!(nodes, names);
        let read =
            info.layers.iter().flat_map(|layer| layer.reads.iter().map(|read| (read.clone(), layer.name.clone())));
        assert_eq!(edges, read.collect::<BTreeSet<_>>());
    }
}

#[test]
fn layers_that_are_no_network_are_one_line() {
    type Spoil = fn(&mut Vec<LayerInfo>);
    let cases: [(&str, Spoil); 6] = [
        ("name", |layers| layers[2].name = layers[1].name.clone()),
        ("reads", |layers| layers[2].reads = vec!["nowhere".to_string()]),
        ("reads", |layers| layers[2].reads.clear()),
        ("reads", |layers| layers[0].reads = vec!["input".to_string()]),
        ("reads", |layers| layers[1].reads = vec![layers[4].name.clone()]),
        ("time", |layers| layers[3].time = Some(f64::NAN)),
    ];
    for (field, spoil) in cases {
        let mut report = report(50);
        report.network = network(&[1, 1], true);
        spoil(&mut report.network.layers);
        let line = report.html().expect_err(field).to_string();
        assert!(line.contains("network.layers") && line.contains(field) && !line.contains('\n'), "{line}");
        assert!(report.network.svg().is_err());
    }
}

/// Nodes and edges of a graph, read by the grammar of the DOT language as far as it is used here.
fn parse_dot(text: &str) -> (BTreeSet<String>, BTreeSet<(String, String)>) {
    let mut tokens: Vec<String> = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                let mut quoted = String::from("\"");
                loop {
                    match characters.next().expect("a quote is closed") {
                        '"' => break,
                        '\\' => match characters.next().expect("an escape is whole") {
                            'n' => quoted.push('\n'),
                            escaped => quoted.push(escaped),
                        },
                        other => quoted.push(other),
                    }
                }
                tokens.push(quoted);
            }
            '-' => {
                assert_eq!(characters.next(), Some('>'), "edges of a digraph");
                tokens.push("->".to_string());
            }
            c if c.is_whitespace() => {}
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = c.to_string();
                while let Some(&next) = characters.peek().filter(|next| next.is_alphanumeric() || **next == '_') {
                    word.push(next);
                    characters.next();
                }
                tokens.push(word);
            }
            c => {
                assert!("{}[]=,;".contains(c), "{c} is no token");
                tokens.push(c.to_string());
            }
        }
    }
    let mut tokens = tokens.into_iter().peekable();
    assert_eq!(tokens.next().as_deref(), Some("digraph"));
    assert_eq!(tokens.next().as_deref(), Some("\"net \"<&\\"), "the graph's name survives quoting");
    assert_eq!(tokens.next().as_deref(), Some("{"));
    let (mut depth, mut nodes, mut edges) = (1, BTreeSet::new(), BTreeSet::new());
    while let Some(token) = tokens.next() {
        match token.as_str() {
            "}" => depth -= 1,
            ";" => {}
            "subgraph" => {
                assert!(tokens.next().expect("a name").starts_with("cluster"));
                assert_eq!(tokens.next().as_deref(), Some("{"));
                depth += 1;
            }
            word => {
                let mut target = None;
                let mut default = !word.starts_with('"');
                if tokens.next_if(|next| next == "->").is_some() {
                    target = tokens.next();
                } else if tokens.next_if(|next| next == "=").is_some() {
                    assert!(tokens.next().is_some());
                    default = true;
                }
                if tokens.next_if(|next| next == "[").is_some() {
                    loop {
                        let name = tokens.next().expect("an attribute");
                        assert!(name.chars().all(char::is_alphanumeric), "{name}");
                        assert_eq!(tokens.next().as_deref(), Some("="));
                        assert!(tokens.next().is_some());
                        match tokens.next().as_deref() {
                            Some(",") => {}
                            Some("]") => break,
                            other => panic!("{other:?} after an attribute"),
                        }
                    }
                }
                assert_eq!(tokens.next().as_deref(), Some(";"));
                let plain = |name: &str| name.trim_start_matches('"').to_string();
                match target {
                    Some(target) => drop(edges.insert((plain(word), plain(&target)))),
                    None if !default => drop(nodes.insert(plain(word))),
                    None => {}
                }
            }
        }
    }
    assert_eq!(depth, 0);
    (nodes, edges)
}
