//! From statements to compact instructions, once for each kernel.

mod arithmetic;
mod bulk;
mod control;
mod convert;
mod float;
mod half;
mod integer;
mod logic;
mod matrix;
mod mbarrier;
mod memory;
mod modifiers;
mod moves;
mod operands;
mod product;
mod registers;
mod visit;

use std::collections::HashMap;

use crate::LoadError;
use crate::instruction::{Class, Instruction, Op, Row};
use crate::ptx::{self, Parameter, Place, Space, Statement, Variable, unknown};
pub(crate) use integer::insert;
use modifiers::Modifiers;
use product::{registers, watched};
use registers::{File, Rows};

/// A kernel ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) code: Vec<Instruction>,
    /// Of each instruction: where it stands, and its opcode.
    pub(crate) places: Vec<Place>,
    pub(crate) opcodes: Vec<String>,
    /// Targets of indexed branches.
    pub(crate) tables: Vec<Vec<u32>>,
    /// Rows of the three register files, constants included.
    pub(crate) shorts: usize,
    pub(crate) longs: usize,
    pub(crate) predicates: usize,
    pub(crate) constants: Vec<(Row, Constant)>,
    pub(crate) long_constants: Vec<(Row, Constant)>,
    pub(crate) predicate_constants: Vec<(Row, bool)>,
    pub(crate) parameters: Vec<Parameter>,
    /// Shared memory declared with its size.
    pub(crate) static_shared_bytes: u64,
    pub(crate) local_bytes: u64,
    pub(crate) max_threads: Option<u64>,
    pub(crate) required: Option<[u64; 3]>,
    /// `.reqnctapercluster`: blocks of a cluster.
    pub(crate) cluster: [u32; 3],
    /// Registers of a thread when the kernel begins, where the text bounds them.
    pub(crate) registers: Option<u32>,
    /// Of each instruction, the rows it touches that are operands of asynchronous products; empty without any.
    pub(crate) watched: Vec<Box<[Row]>>,
    /// Has `griddepcontrol`: on a GPU it may begin before the launch before it has ended.
    pub(crate) overlaps: bool,
}

/// What fills a row before the first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Constant {
    Bits(u64),
    /// An offset in the block's shared memory.
    Shared(u64),
    /// A module variable by index, plus an offset.
    Variable(usize, i64),
    Special(Special),
}

/// Special registers that keep their value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Thread(usize),
    Threads(usize),
    Block(usize),
    Blocks(usize),
    Lane,
    Warp,
    Warps,
    MaskEqual,
    MaskLess,
    MaskLessEqual,
    MaskGreater,
    MaskGreaterEqual,
    DynamicSharedBytes,
    TotalSharedBytes,
    ClusterBlocks(usize),
    ClusterBlock(usize),
    Cluster(usize),
    Clusters(usize),
    ClusterRank,
    ClusterSize,
    GridId,
    Multiprocessor,
    Multiprocessors,
}

/// Where a name leads.
#[derive(Clone, Copy, Debug)]
enum Symbol {
    Global(usize),
    Shared(u64),
    Local(u64),
    Param(u64),
}

/// Decodes one kernel of a module.
pub(crate) fn decode(module: &ptx::Module, kernel: &ptx::Kernel) -> Result<Program, LoadError> {
    let mut decoder = Decoder::new(module, kernel);
    let mut code = Vec::with_capacity(kernel.body.len() + 1);
    for statement in &kernel.body {
        code.push(decoder.instruction(statement)?);
    }
    // A body may end without `ret`.
    code.push(Instruction { op: Op::Exit, guard: None, class: Class::Control });
    let mut places: Vec<Place> = kernel.body.iter().map(|statement| statement.place).collect();
    places.push(places.last().copied().unwrap_or_default());
    let mut opcodes: Vec<String> = kernel.body.iter().map(|statement| statement.opcode.clone()).collect();
    opcodes.push("ret".to_owned());
    let tables = decoder.tables;
    let files = decoder.rows.assign(&mut code, &tables)?;
    let watched = watched(&mut code);
    Ok(Program {
        name: kernel.name.clone(),
        code,
        places,
        opcodes,
        tables,
        shorts: files.shorts,
        longs: files.longs,
        predicates: files.predicates,
        constants: files.constants,
        long_constants: files.long_constants,
        predicate_constants: files.predicate_constants,
        parameters: kernel.parameters.clone(),
        static_shared_bytes: decoder.shared_bytes,
        local_bytes: decoder.local_bytes,
        max_threads: kernel.max_threads,
        required: kernel.required,
        cluster: kernel.cluster,
        registers: registers(kernel),
        watched,
        overlaps: kernel.body.iter().any(|statement| statement.opcode.starts_with("griddepcontrol.")),
    })
}

/// What decoding one kernel needs to know, and what it gathers.
struct Decoder<'a> {
    /// The architecture, and whether instructions of it alone are allowed.
    target: (u32, bool),
    kernel: &'a ptx::Kernel,
    symbols: HashMap<&'a str, Symbol>,
    rows: Rows,
    tables: Vec<Vec<u32>>,
    shared_bytes: u64,
    local_bytes: u64,
    /// Line of the statement being decoded.
    line: u32,
    scope: usize,
}

impl<'a> Decoder<'a> {
    fn new(module: &'a ptx::Module, kernel: &'a ptx::Kernel) -> Self {
        let mut symbols = HashMap::new();
        let (mut shared_bytes, mut local_bytes) = (0, 0);
        let place = |variable: &Variable, end: &mut u64| {
            let offset = end.next_multiple_of(variable.align);
            *end = offset + variable.bytes;
            offset
        };
        let mut dynamic = Vec::new();
        for (index, variable) in module.variables.iter().enumerate() {
            if variable.space != Space::Shared {
                symbols.insert(variable.name.as_str(), Symbol::Global(index));
            }
        }
        let of_module = module.variables.iter().filter(|variable| variable.space == Space::Shared);
        // Shared variables of the module take space only in kernels that name them.
        let used = of_module.filter(|variable| kernel.body.iter().any(|statement| names(statement, &variable.name)));
        for variable in used.chain(&kernel.variables) {
            if variable.dynamic {
                dynamic.push(variable);
            } else if variable.space == Space::Shared {
                symbols.insert(variable.name.as_str(), Symbol::Shared(place(variable, &mut shared_bytes)));
            } else {
                symbols.insert(variable.name.as_str(), Symbol::Local(place(variable, &mut local_bytes)));
            }
        }
        // All dynamic variables begin at the same place, behind the static ones.
        let align = dynamic.iter().map(|variable| variable.align).max().unwrap_or(1);
        if !dynamic.is_empty() {
            shared_bytes = shared_bytes.next_multiple_of(align);
        }
        for variable in dynamic {
            symbols.insert(variable.name.as_str(), Symbol::Shared(shared_bytes));
        }
        for parameter in &kernel.parameters {
            symbols.insert(parameter.name.as_str(), Symbol::Param(parameter.offset));
        }
        let rows = Rows::new(&kernel.registers);
        let target = (module.target, module.specific);
        Decoder { target, kernel, symbols, rows, tables: Vec::new(), shared_bytes, local_bytes, line: 0, scope: 0 }
    }

    /// Refuses what the target does not have.
    fn check_target(&self, op: &Op, opcode: &str) -> Result<(), LoadError> {
        let specific = ["wgmma.", "setmaxnreg."].iter().any(|name| opcode.starts_with(name));
        let (needs, fine) = match (op, self.target) {
            (Op::Asynchronous(_), target) if specific => ("sm_90a", target == (90, true)),
            (Op::Asynchronous(_) | Op::Elect { .. }, (number, _)) => ("sm_90", number >= 90),
            _ => return Ok(()),
        };
        let found = self.target.0;
        if fine { Ok(()) } else { Err(unknown(self.line, format!("instruction `{opcode}` of {needs} for sm_{found}"))) }
    }

    fn kernel_registers(&self) -> Option<u32> {
        registers(self.kernel)
    }

    fn instruction(&mut self, statement: &Statement) -> Result<Instruction, LoadError> {
        self.line = statement.place.line;
        self.scope = statement.scope;
        let guard = match statement.guard {
            Some(guard) => Some((self.rows.register(File::Predicate, guard.register, self.line)?, guard.negated)),
            None => None,
        };
        let mut modifiers = Modifiers::new(&statement.opcode, statement.place.line);
        let (op, class) = self.operation(&mut modifiers, &statement.operands)?;
        modifiers.finish()?;
        self.check_target(&op, &statement.opcode)?;
        Ok(Instruction { op, guard, class })
    }

    /// One place that knows every base instruction.
    fn operation(&mut self, m: &mut Modifiers<'_>, operands: &[ptx::Operand]) -> Result<(Op, Class), LoadError> {
        let class;
        let op = match m.head() {
            "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "abs" | "neg" | "min" | "max" | "addc" | "subc"
            | "madc" => {
                return arithmetic::decode(self, m, operands);
            }
            "sad" | "shl" | "shr" | "shf" | "prmt" | "bfe" | "bfi" | "brev" | "popc" | "clz" | "bfind" | "dp4a" => {
                class = Class::Integer;
                integer::decode_bits(self, m, operands)?
            }
            "and" | "or" | "xor" | "not" | "lop3" | "setp" | "selp" => {
                class = Class::Integer;
                logic::decode(self, m, operands)?
            }
            "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" | "copysign" | "testp" => {
                class = Class::Float;
                float::decode_function(self, m, operands)?
            }
            "cvt" => {
                class = Class::Convert;
                convert::decode(self, m, operands)?
            }
            "mov" | "cvta" | "isspacep" => {
                class = Class::Move;
                moves::decode(self, m, operands)?
            }
            "ld" | "ldu" | "st" | "atom" | "red" | "cp" | "prefetch" | "prefetchu" => {
                class = Class::Memory;
                memory::decode(self, m, operands)?
            }
            "shfl" | "vote" | "match" | "redux" | "activemask" | "elect" => {
                class = Class::Exchange;
                control::decode_exchange(self, m, operands)?
            }
            "bar" | "barrier" | "membar" | "fence" | "bra" | "brx" | "ret" | "exit" | "trap" | "nanosleep"
            | "setmaxnreg" | "griddepcontrol" | "mapa" => {
                class = Class::Control;
                control::decode(self, m, operands)?
            }
            "mbarrier" => {
                class = Class::Control;
                mbarrier::decode(self, m, operands)?
            }
            "ldmatrix" | "stmatrix" | "mma" => {
                class = Class::Matrix;
                matrix::decode(self, m, operands)?
            }
            "wgmma" => {
                class = Class::Matrix;
                product::decode(self, m, operands)?
            }
            _ => return Err(unknown(self.line, format!("instruction `{}`", m.opcode()))),
        };
        Ok((op, class))
    }
}

fn names(statement: &Statement, name: &str) -> bool {
    fn inside(operand: &ptx::Operand, name: &str) -> bool {
        match operand {
            ptx::Operand::Symbol(symbol, _) => symbol == name,
            ptx::Operand::Vector(parts) => parts.iter().any(|part| inside(part, name)),
            ptx::Operand::Address(base, _) | ptx::Operand::Not(base) => inside(base, name),
            ptx::Operand::Pair(first, second) => inside(first, name) || inside(second, name),
            ptx::Operand::Tensor(map, parts) => inside(map, name) || parts.iter().any(|part| inside(part, name)),
            _ => false,
        }
    }
    statement.operands.iter().any(|operand| inside(operand, name))
}
