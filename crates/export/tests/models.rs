//! Exported networks of every depth compute what ours compute, in other people's programs.

use safetensors::SafeTensors;
use sphereface_export::{Trained, onnx, pytorch};
use sphereface_models::{CLASS_WEIGHTS, ImageSource, LOSSES, Model, NETWORKS, named_network};
use sphereface_tensor::cpu::CpuBackend;
use sphereface_tensor::op::{MarginSoftmax, Scale};
use sphereface_tensor::random::{Stream, uniform};
use sphereface_tensor::{Backend, PARAMETERS, ParameterSet};
use sphereface_testkit::{PYTHON, TORCH_PYTHON, has_python, run_script};
use std::fs;
use std::path::{Path, PathBuf};

/// Sizes that differ, so that no two dimensions can be taken for each other; after the last stage 3×2 pixels are left.
const IMAGE: [usize; 3] = [48, 32, 3];
const CLASSES: usize = 7;
const EMBEDDING: usize = 5;
const IMAGES: usize = 3;

struct Example {
    model: Model,
    parameters: ParameterSet,
    values: Vec<f32>,
}

impl Example {
    /// A network with a margin of its own and with values that are nowhere the same, biases and slopes among them.
    fn new(network: &str, scale: Scale) -> Example {
        let network = named_network(network).unwrap().network(IMAGE, EMBEDDING);
        let model = Model { network, head: MarginSoftmax { scale, ..LOSSES[0].head(CLASSES) } };
        let parameters = model.parameters().unwrap();
        let mut values = parameters.initial(1);
        for (number, parameter) in parameters.iter().enumerate() {
            if parameter.name.ends_with(".bias") || parameter.name.ends_with(".slope") {
                let random = |i: usize| uniform(2, Stream::Initialisation, number as u32, i as u64) as f32;
                values[parameter.range()].iter_mut().enumerate().for_each(|(i, v)| *v += 0.2 * random(i) - 0.1);
            }
        }
        Example { model, parameters, values }
    }

    fn trained<'a>(&'a self, facts: &'a [(&'static str, String)]) -> Trained<'a> {
        Trained { model: &self.model, parameters: &self.parameters, values: &self.values, facts }
    }

    fn value(&self, name: &str) -> &[f32] {
        &self.values[self.parameters.get(name).unwrap().range()]
    }

    /// Writes both model files, and images with the embeddings and logits that our backend makes of them.
    fn write(&self, folder: &Path) {
        let facts = [("loss", "test".to_owned()), ("seed", "1".to_owned())];
        fs::create_dir_all(folder.join("runs/m3")).unwrap();
        fs::write(folder.join("model.onnx"), onnx::encode(&self.trained(&facts)).unwrap()).unwrap();
        let file = pytorch::encode(&self.trained(&facts)).unwrap();
        fs::write(folder.join("runs/m3/model.safetensors"), file).unwrap();
        let pixels = IMAGES * IMAGE.iter().product::<usize>();
        let images: Vec<u8> =
            (0..pixels).map(|i| (256.0 * uniform(3, Stream::Initialisation, 0, i as u64)) as u8).collect();
        let embeddings = self.embed(&images);
        let logits = self.logits(&embeddings);
        fs::write(folder.join("images.bin"), images).unwrap();
        fs::write(folder.join("embeddings.bin"), bytemuck::cast_slice(&embeddings)).unwrap();
        fs::write(folder.join("logits.bin"), bytemuck::cast_slice(&logits)).unwrap();
    }

    fn embed(&self, images: &[u8]) -> Vec<f32> {
        let source = ImageSource { name: "test", images: IMAGES };
        let mut backend = CpuBackend::new(0).unwrap();
        let plan = self.model.embedding_plan(&self.parameters, source, IMAGES).unwrap();
        let program = backend.lower(&plan).unwrap();
        backend.upload(PARAMETERS, bytemuck::cast_slice(&self.values)).unwrap();
        backend.upload(&source.images_buffer(), images).unwrap();
        backend.upload(&source.labels_buffer(), &[0; IMAGES]).unwrap();
        backend.upload(&source.counter_buffer(), &[0; 4]).unwrap();
        backend.run(program, 1).unwrap();
        let mut embeddings = vec![0.0f32; IMAGES * EMBEDDING];
        backend.download(&source.embedding_buffer(), bytemuck::cast_slice_mut(&mut embeddings)).unwrap();
        embeddings
    }

    /// The head's logits without margin, by their definition, in f64.
    fn logits(&self, embeddings: &[f32]) -> Vec<f32> {
        let norm = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let weights = self.value(CLASS_WEIGHTS);
        let rows = embeddings.chunks_exact(EMBEDDING);
        rows.flat_map(|x| weights.chunks_exact(EMBEDDING).map(move |w| (x, w)))
            .map(|(x, w)| {
                let dot: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                let kappa = match self.model.head.scale {
                    Scale::InnerProduct => norm(x) * norm(w),
                    Scale::FeatureNorm => norm(x),
                    Scale::Constant(scale) => f64::from(scale),
                };
                (kappa * dot / (norm(x) * norm(w))) as f32
            })
            .collect()
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    folder
}

/// Writes every network, checks it, and removes it: together they have half a gigabyte.
fn for_each_network(name: &str, scales: &[Scale], check: impl Fn(&Path)) {
    for (number, network) in NETWORKS.iter().enumerate() {
        let folder = folder(&format!("{name}-{}", network.key));
        Example::new(network.key, scales[number % scales.len()]).write(&folder);
        check(&folder);
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn onnxruntime_computes_the_same_at_every_depth() {
    if !has_python(PYTHON) {
        return;
    }
    let scales = [Scale::InnerProduct, Scale::FeatureNorm, Scale::Constant(30.0)];
    let [height, width, channels] = IMAGE.map(|size| size.to_string());
    for_each_network("onnx", &scales, |folder| {
        let said = run_script(PYTHON, "check_onnx.py", &[&folder.to_string_lossy(), &height, &width, &channels]);
        println!("{}\n{said}", folder.display());
    });
}

#[test]
fn the_readme_loads_every_depth_in_pytorch() {
    if !has_python(TORCH_PYTHON) {
        return;
    }
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).unwrap();
    let snippet = readme.split_once("```python\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    let path = folder("snippet.py");
    fs::write(&path, snippet).unwrap();
    let [height, width, channels] = IMAGE.map(|size| size.to_string());
    for_each_network("torch", &[Scale::InnerProduct, Scale::FeatureNorm], |folder| {
        let (folder, snippet) = (folder.to_string_lossy(), path.to_string_lossy());
        let said = run_script(TORCH_PYTHON, "check_torch.py", &[&folder, &snippet, &height, &width, &channels]);
        println!("{folder}\n{said}");
    });
}

#[test]
fn safetensors_hold_every_value_where_pytorch_looks_for_it() {
    let example = Example::new("mnist", Scale::FeatureNorm);
    let facts = [("loss", "modified".to_owned())];
    let file = pytorch::encode(&example.trained(&facts)).unwrap();
    assert!(file == pytorch::encode(&example.trained(&facts)).unwrap(), "not the same bytes");
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let read = |name: &str| {
        let view = tensors.tensor(name).unwrap();
        let values: Vec<f32> = view.data().chunks_exact(4).map(bytemuck::pod_read_unaligned).collect();
        (view.shape().to_vec(), values)
    };
    let (_, metadata) = SafeTensors::read_metadata(&file).unwrap();
    let metadata = metadata.metadata().clone().unwrap();
    assert_eq!((metadata["format"].as_str(), metadata["loss"].as_str()), ("pt", "modified"));

    let (shape, found) = read("stage2.unit1.conv1.weight");
    assert_eq!(shape, [32, 32, 3, 3]);
    let filter = example.value("stage2.unit1.conv1.filter"); // [R, S, C, K]
    let (k, c, r, s) = (30, 7, 2, 1);
    assert_eq!(found[((k * 32 + c) * 3 + r) * 3 + s], filter[((r * 3 + s) * 32 + c) * 32 + k]);

    let (shape, found) = read("embedding.weight");
    assert_eq!(shape, [EMBEDDING, 128 * 3 * 2]);
    let weight = example.value("embedding.weight"); // [H, W, C, K]
    let (d, c, h, w) = (4, 101, 2, 1);
    assert_eq!(found[((d * 128 + c) * 3 + h) * 2 + w], weight[((h * 2 + w) * 128 + c) * EMBEDDING + d]);

    assert_eq!(read("stage1.prelu.weight"), (vec![16], example.value("stage1.prelu.slope").to_vec()));
    assert_eq!(read("stage1.conv.bias").1, example.value("stage1.conv.bias"));
    let (shape, found) = read(CLASS_WEIGHTS);
    assert_eq!(shape, [CLASSES, EMBEDDING]);
    for row in found.chunks(EMBEDDING) {
        assert!((row.iter().map(|w| w * w).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    let named: usize = tensors.tensors().iter().map(|(_, view)| view.shape().iter().product::<usize>()).sum();
    assert_eq!(named, example.parameters.count());
}

#[test]
fn a_model_file_gives_the_same_values_back() {
    let example = Example::new("mnist", Scale::InnerProduct);
    let file = pytorch::encode(&example.trained(&[])).unwrap();
    let values = pytorch::decode(&file, &example.model, &example.parameters).unwrap();
    for parameter in example.parameters.iter() {
        assert_eq!(values[parameter.range()], example.values[parameter.range()], "{}", parameter.name);
    }
    let refused = |file: &[u8], example: &Example| {
        let message = pytorch::decode(file, &example.model, &example.parameters).unwrap_err().to_string();
        assert!(message.contains("expected") && message.contains("found") && !message.contains('\n'), "{message}");
        message
    };
    refused(&file[..file.len() - 1], &example);
    refused(b"no such file", &example);
    assert!(refused(&file, &Example::new("sphereface4", Scale::InnerProduct)).contains("stage1.conv.weight"));
    let mut infinite = Example::new("mnist", Scale::InnerProduct);
    let last = infinite.parameters.get(CLASS_WEIGHTS).unwrap().offset;
    infinite.values[last] = f32::INFINITY;
    let file = pytorch::encode(&infinite.trained(&[])).unwrap();
    assert!(refused(&file, &example).contains("finite"));
}

#[test]
fn values_of_another_model_are_refused() {
    let mut example = Example::new("mnist", Scale::FeatureNorm);
    example.values.pop();
    let message = onnx::encode(&example.trained(&[])).unwrap_err().to_string();
    assert!(message.contains("expected") && message.contains("found") && !message.contains('\n'), "{message}");
}
