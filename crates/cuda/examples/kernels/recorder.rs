//! A device that runs nothing and notes how each kernel is launched.

use sphereface_cuda::driver::{Argument, Extent, FunctionId, GraphId, ModuleId};
use sphereface_cuda::nvrtc::{Architecture, Output};
use sphereface_cuda::{CudaBackend, Driver, Options, Precision, Tier};
use sphereface_tensor::Backend;
use sphereface_tensor::op::Layout;
use sphereface_testkit::cases::{self, Case};
use sphereface_testkit::{TrainingCase, lower_case};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// The largest block of a kernel's launches, and the most dynamic shared memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Launched {
    pub(crate) threads: u32,
    pub(crate) shared_bytes: u32,
}

type Noted = Rc<RefCell<BTreeMap<String, Launched>>>;

struct Recorder {
    noted: Noted,
    functions: Vec<String>,
    allocated: u64,
}

/// How the tests' operators, their trainings and one of SphereFace-20 launch each kernel; operators without a kernel are
/// left out.
pub(crate) fn launches() -> BTreeMap<String, Launched> {
    let noted = Noted::default();
    let mut operators = [cases::gemm(), cases::conv2d(), cases::long_sums(), cases::linear(), cases::prelu()].concat();
    // The largest tiles are for sizes that no test could run.
    for layout in [Layout::NN, Layout::NT, Layout::TN] {
        for [rows, columns] in [[64, 64], [16_384, 64], [16_384, 1024]] {
            operators.extend(cases::gemm_of(layout, [rows, columns, 64]));
        }
    }
    for [inputs, outputs] in [[64, 1024], [1024, 64], [1024, 1024]] {
        operators.extend(cases::linear_passes([1, 1, 16_384, inputs, outputs]));
    }
    operators.extend(cases::conv2d_passes([14, 14, 64, 512, 64, 3, 1, 1]));
    operators.extend([cases::elementwise(), cases::optimizer(), cases::gather_batch(), cases::metrics()].concat());
    let narrow: Vec<Case> = operators.iter().filter_map(Case::in_bf16).collect();
    operators.extend(narrow);
    let mut trainings = TrainingCase::tiny();
    trainings.extend(TrainingCase::sphereface20());
    for precision in [Precision::Fp32, Precision::Tf32, Precision::Bf16] {
        for tier in [Tier::Simt, Tier::Mma, Tier::Wgmma] {
            let options = Options { precision, tier, graph: false, ..Options::default() };
            let recorder = || Recorder { noted: Rc::clone(&noted), functions: Vec::new(), allocated: 0 };
            let mut backend = CudaBackend::new(recorder(), options);
            for case in &operators {
                if let Ok((_, program)) = lower_case(case, &mut backend) {
                    let _ = backend.run(program, 1);
                }
            }
            for case in &trainings {
                // Buffers have names, which trainings share.
                let mut backend = CudaBackend::new(recorder(), options);
                if let Ok((_, plan)) = case.plan()
                    && let Ok(program) = backend.lower(&plan)
                {
                    let _ = backend.run(program, 1);
                }
            }
        }
    }
    noted.take()
}

impl Driver for Recorder {
    fn name(&self) -> String {
        "a device that runs nothing".into()
    }

    fn architecture(&self) -> Architecture {
        Architecture::specific(90)
    }

    fn output(&self) -> Output {
        Output::Cubin
    }

    fn load(&mut self, _image: &[u8]) -> Result<ModuleId, String> {
        Ok(ModuleId(0))
    }

    fn function(&mut self, _module: ModuleId, name: &str, _shared_bytes: u32) -> Result<FunctionId, String> {
        self.functions.push(name.to_owned());
        Ok(FunctionId(self.functions.len() - 1))
    }

    fn allocate(&mut self, bytes: u64) -> Result<u64, String> {
        self.allocated += bytes.next_multiple_of(256) + 256;
        Ok(self.allocated)
    }

    fn free(&mut self, _pointer: u64) -> Result<(), String> {
        Ok(())
    }

    fn upload(&mut self, _pointer: u64, _bytes: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn download(&mut self, _pointer: u64, _bytes: &mut [u8]) -> Result<(), String> {
        Ok(())
    }

    fn launch(&mut self, function: FunctionId, extent: Extent, _arguments: &[Argument]) -> Result<(), String> {
        let mut noted = self.noted.borrow_mut();
        let launched = noted.entry(self.functions[function.0].clone()).or_default();
        launched.threads = launched.threads.max(extent.block.iter().product());
        launched.shared_bytes = launched.shared_bytes.max(extent.shared_bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn begin_capture(&mut self) -> Result<(), String> {
        Err("it captures nothing".into())
    }

    fn end_capture(&mut self) -> Result<GraphId, String> {
        Err("it captures nothing".into())
    }

    fn replay(&mut self, _graph: GraphId) -> Result<(), String> {
        Err("it captures nothing".into())
    }

    fn forget_graph(&mut self, _graph: GraphId) {}

    fn record(&mut self, _event: usize) -> Result<(), String> {
        Ok(())
    }

    fn elapsed(&mut self, _from: usize, _to: usize) -> Result<Duration, String> {
        Err("it has no clock".into())
    }
}
