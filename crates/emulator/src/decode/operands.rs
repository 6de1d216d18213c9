//! Operands as rows: registers, and constants that get a row of their own.

use super::registers::File;
use super::{Constant, Decoder, Special, Symbol};
use crate::LoadError;
use crate::instruction::{Address, Base, Row, Value};
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW};
use crate::ptx::{Label, Operand, Space, Type, malformed, unknown};

impl Decoder<'_> {
    /// The operand at an index, or an error that counts them.
    pub(super) fn operand<'o>(&self, operands: &'o [Operand], index: usize) -> Result<&'o Operand, LoadError> {
        operands.get(index).ok_or_else(|| malformed(self.line, format!("operand {} is missing", index + 1)))
    }

    /// Exactly this many operands.
    pub(super) fn exactly<'o, const N: usize>(&self, operands: &'o [Operand]) -> Result<&'o [Operand; N], LoadError> {
        operands
            .try_into()
            .map_err(|_| malformed(self.line, format!("{N} operands expected, {} found", operands.len())))
    }

    /// A destination of at most 32 bits.
    pub(super) fn written_short(&mut self, operand: &Operand) -> Result<Row, LoadError> {
        match operand {
            Operand::Register(index) => self.rows.register(File::Short, *index, self.line),
            Operand::Sink => self.rows.scratch(File::Short, self.line),
            _ => Err(malformed(self.line, "a register expected as destination")),
        }
    }

    /// A destination of 64 bits.
    pub(super) fn written_long(&mut self, operand: &Operand) -> Result<Row, LoadError> {
        match operand {
            Operand::Register(index) => self.rows.register(File::Long, *index, self.line),
            Operand::Sink => self.rows.scratch(File::Long, self.line),
            _ => Err(malformed(self.line, "a register expected as destination")),
        }
    }

    /// A destination predicate.
    pub(super) fn written_predicate(&mut self, operand: &Operand) -> Result<Row, LoadError> {
        match operand {
            Operand::Register(index) => self.rows.register(File::Predicate, *index, self.line),
            Operand::Sink => self.rows.scratch(File::Predicate, self.line),
            _ => Err(malformed(self.line, "a predicate expected as destination")),
        }
    }

    /// A source of at most 32 bits, read as the type.
    pub(super) fn short(&mut self, operand: &Operand, kind: Type) -> Result<Row, LoadError> {
        let bits = match operand {
            Operand::Register(index) => return self.rows.register(File::Short, *index, self.line),
            Operand::Integer(value) if kind.is_float() && kind != Type::Tf32 && kind.bits() == 32 && *value == 0 => 0,
            Operand::Integer(value) => *value & (u64::MAX >> (64 - kind.bits().min(32))),
            Operand::Single(bits) => u64::from(*bits),
            Operand::Double(value) => u64::from((*value as f32).to_bits()),
            Operand::Special(name) => {
                let special = self.special(name)?;
                return self.rows.constant(File::Short, Constant::Special(special), self.line);
            }
            Operand::Symbol(name, offset) => match self.symbol(name)? {
                Symbol::Shared(at) => {
                    let at = Constant::Shared(at.wrapping_add_signed(*offset));
                    return self.rows.constant(File::Short, at, self.line);
                }
                Symbol::Local(at) => at.wrapping_add_signed(*offset),
                Symbol::Global(_) | Symbol::Param(_) => {
                    return Err(malformed(self.line, format!("the address of `{name}` does not fit 32 bits")));
                }
            },
            _ => return Err(malformed(self.line, "a value of at most 32 bits expected")),
        };
        self.rows.constant(File::Short, Constant::Bits(bits & 0xffff_ffff), self.line)
    }

    /// A source of 64 bits.
    pub(super) fn long(&mut self, operand: &Operand) -> Result<Row, LoadError> {
        let constant = match operand {
            Operand::Register(index) => return self.rows.register(File::Long, *index, self.line),
            Operand::Integer(value) => Constant::Bits(*value),
            Operand::Double(value) => Constant::Bits(value.to_bits()),
            Operand::Symbol(name, offset) => match self.symbol(name)? {
                Symbol::Shared(at) => Constant::Shared(at.wrapping_add_signed(*offset)),
                Symbol::Local(at) | Symbol::Param(at) => Constant::Bits(at.wrapping_add_signed(*offset)),
                Symbol::Global(index) => Constant::Variable(index, *offset),
            },
            _ => return Err(malformed(self.line, "a value of 64 bits expected")),
        };
        self.rows.constant(File::Long, constant, self.line)
    }

    /// A source predicate and whether it is negated.
    pub(super) fn predicate(&mut self, operand: &Operand) -> Result<(Row, bool), LoadError> {
        match operand {
            Operand::Register(index) => Ok((self.rows.register(File::Predicate, *index, self.line)?, false)),
            Operand::Not(inner) => self.predicate(inner).map(|(row, negated)| (row, !negated)),
            Operand::Integer(value) => {
                let row = self.rows.constant(File::Predicate, Constant::Bits(u64::from(*value != 0)), self.line)?;
                Ok((row, false))
            }
            _ => Err(malformed(self.line, "a predicate expected")),
        }
    }

    /// A whole number that is written out.
    pub(super) fn immediate(&self, operand: &Operand) -> Result<u64, LoadError> {
        match operand {
            Operand::Integer(value) => Ok(*value),
            _ => Err(unknown(self.line, "a register where this instruction is only known with a number")),
        }
    }

    /// The file and width of a register.
    pub(super) fn type_of(&self, operand: &Operand) -> Option<Type> {
        match operand {
            Operand::Register(index) => self.kernel.registers.get(*index).copied(),
            _ => None,
        }
    }

    /// A destination of a memory access.
    pub(super) fn written_value(&mut self, operand: &Operand) -> Result<Value, LoadError> {
        match self.type_of(operand) {
            _ if *operand == Operand::Sink => Ok(Value::Sink),
            Some(Type::Pred) | None => Err(malformed(self.line, "a register expected as destination")),
            Some(kind) if kind.bits() == 64 => Ok(Value::Long(self.written_long(operand)?)),
            Some(kind) => Ok(Value::Short(self.written_short(operand)?, kind.bits())),
        }
    }

    /// A source of a memory access of the type.
    pub(super) fn value(&mut self, operand: &Operand, kind: Type) -> Result<Value, LoadError> {
        let register = self.type_of(operand).map_or(kind.bits(), Type::bits);
        if register == 64 {
            Ok(Value::Long(self.long(operand)?))
        } else {
            Ok(Value::Short(self.short(operand, kind)?, register))
        }
    }

    /// `[register+offset]` in a space.
    pub(super) fn address(&mut self, operand: &Operand, space: Space) -> Result<Address, LoadError> {
        let Operand::Address(base, offset) = operand else {
            return Err(malformed(self.line, "an address in brackets expected"));
        };
        let mut space = space;
        let base = match &**base {
            Operand::Symbol(name, _) if space == Space::Param => {
                let found = self.kernel.parameters.iter().find(|parameter| parameter.name == *name);
                let parameter = found
                    .ok_or_else(|| unknown(self.line, format!("`{name}`, which is no parameter of the kernel")))?;
                let at = Constant::Bits(parameter.offset);
                Base::Long(self.rows.constant(File::Long, at, self.line)?)
            }
            Operand::Symbol(name, _) => {
                match (self.symbol(name)?, space) {
                    (Symbol::Shared(_), Space::Generic) => space = Space::Shared,
                    (Symbol::Local(_), Space::Generic) => space = Space::Local,
                    (Symbol::Shared(_), Space::Shared)
                    | (Symbol::Local(_), Space::Local)
                    | (Symbol::Global(_), Space::Generic | Space::Global | Space::Const) => {}
                    _ => return Err(malformed(self.line, format!("`{name}` lies in another memory space"))),
                }
                Base::Long(self.long(base)?)
            }
            Operand::Integer(_) => Base::Long(self.long(base)?),
            Operand::Register(_) if self.type_of(base).is_some_and(|kind| kind.bits() == 64) => {
                Base::Long(self.long(base)?)
            }
            Operand::Register(_) => Base::Short(self.short(base, Type::U32)?),
            _ => return Err(malformed(self.line, "a register or a name expected as address")),
        };
        Ok(Address { space, base, offset: *offset })
    }

    /// The instruction that a label stands before.
    pub(super) fn target(&self, name: &str) -> Result<u32, LoadError> {
        match self.kernel.label(name, self.scope) {
            Some(Label::Instruction(index)) => Ok(*index as u32),
            _ => Err(malformed(self.line, format!("label `{name}` is missing"))),
        }
    }

    /// The generic address of a variable in local memory lies in a window; `cvta` adds its base.
    pub(super) fn window(space: Space) -> Option<u64> {
        match space {
            Space::Shared => Some(crate::memory::SHARED_WINDOW),
            Space::Local => Some(LOCAL_WINDOW),
            Space::Param => Some(PARAM_WINDOW),
            Space::Global | Space::Const => Some(0),
            _ => None,
        }
    }

    fn symbol(&self, name: &str) -> Result<Symbol, LoadError> {
        self.symbols.get(name).copied().ok_or_else(|| malformed(self.line, format!("`{name}` is not declared")))
    }

    fn special(&self, name: &str) -> Result<Special, LoadError> {
        let axis = match name.rsplit_once('.') {
            Some((_, "x")) => 0,
            Some((_, "y")) => 1,
            _ => 2,
        };
        Ok(match name {
            "%tid.x" | "%tid.y" | "%tid.z" => Special::Thread(axis),
            "%ntid.x" | "%ntid.y" | "%ntid.z" => Special::Threads(axis),
            "%ctaid.x" | "%ctaid.y" | "%ctaid.z" => Special::Block(axis),
            "%nctaid.x" | "%nctaid.y" | "%nctaid.z" => Special::Blocks(axis),
            "%laneid" => Special::Lane,
            "%warpid" => Special::Warp,
            "%nwarpid" => Special::Warps,
            "%lanemask_eq" => Special::MaskEqual,
            "%lanemask_lt" => Special::MaskLess,
            "%lanemask_le" => Special::MaskLessEqual,
            "%lanemask_gt" => Special::MaskGreater,
            "%lanemask_ge" => Special::MaskGreaterEqual,
            "%dynamic_smem_size" => Special::DynamicSharedBytes,
            "%total_smem_size" => Special::TotalSharedBytes,
            "%cluster_nctaid.x" | "%cluster_nctaid.y" | "%cluster_nctaid.z" => Special::ClusterBlocks(axis),
            "%cluster_ctaid.x" | "%cluster_ctaid.y" | "%cluster_ctaid.z" => Special::ClusterBlock(axis),
            "%clusterid.x" | "%clusterid.y" | "%clusterid.z" => Special::Cluster(axis),
            "%nclusterid.x" | "%nclusterid.y" | "%nclusterid.z" => Special::Clusters(axis),
            "%cluster_ctarank" => Special::ClusterRank,
            "%cluster_nctarank" => Special::ClusterSize,
            "%gridid" => Special::GridId,
            "%smid" => Special::Multiprocessor,
            "%nsmid" => Special::Multiprocessors,
            "WARP_SZ" => return Err(unknown(self.line, "`WARP_SZ`")),
            _ => {
                let what = format!("`{name}`, which is neither a register of the kernel nor a special register");
                return Err(unknown(self.line, what));
            }
        })
    }
}
