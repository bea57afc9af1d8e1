//! The pretrained encoder that fine-tuning starts from: BERT weights in `safetensors`, and a tokenizer cut to the words in use.

use super::encoder::{Config, Encoder};
use super::math::Matrix;
use crate::report::{CARRIED, OTHER, TARGET};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// Why a pretrained encoder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing or unreadable.
    #[error(
        "cannot read {path}: {source}; `python3 scripts/fetch.py encoder` fetches the default encoder into native/encoder"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what a BERT encoder has.
    #[error("{path} is not of a BERT encoder: {reason}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Deserialize)]
struct BertConfig {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    hidden_act: String,
}

/// Special tokens of the model's input, with the word whose embedding each starts from.
const MARKERS: [(&str, &str); 3] = [(TARGET, "this"), (OTHER, "other"), (CARRIED, "also")];
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Reads the encoder in `dir` (`model.safetensors`, `config.json`, `tokenizer.json`), keeping the first `layers` layers (all where it is
/// `None`) and `positions` positions. The vocabulary is cut to about `vocabulary` word pieces: single characters, the pieces
/// that `texts` use, and the most frequent others (BERT's vocabulary is ordered by frequency).
///
/// # Errors
/// [`Error`] names the file and what is wrong with it.
pub fn load<'a>(
    dir: &Path,
    layers: Option<usize>,
    positions: usize,
    vocabulary: usize,
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<(Encoder, Tokenizer), Error> {
    let read = |name: &str| {
        let path = dir.join(name);
        std::fs::read(&path).map_err(|source| Error::Read { path, source })
    };
    let form = |name: &str, reason: String| Error::Form { path: dir.join(name), reason };
    let bert: BertConfig =
        serde_json::from_slice(&read("config.json")?).map_err(|e| form("config.json", e.to_string()))?;
    if bert.hidden_act != "gelu" {
        return Err(form("config.json", format!("its activation is {}, not gelu", bert.hidden_act)));
    }
    let full: Value =
        serde_json::from_slice(&read("tokenizer.json")?).map_err(|e| form("tokenizer.json", e.to_string()))?;
    let (tokenizer, kept) = cut(full, vocabulary, texts).map_err(|reason| form("tokenizer.json", reason))?;

    let bytes = read("model.safetensors")?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| form("model.safetensors", e.to_string()))?;
    let prefix = if tensors.tensor("bert.embeddings.LayerNorm.bias").is_ok() { "bert." } else { "" };
    let get = |name: &str, rows: usize, cols: usize| -> Result<Matrix, Error> {
        let wrong = |reason: String| form("model.safetensors", format!("{name}: {reason}"));
        let tensor = tensors.tensor(&format!("{prefix}{name}")).map_err(|e| wrong(e.to_string()))?;
        let size: usize = tensor.shape().iter().product();
        if tensor.dtype() != safetensors::Dtype::F32 || size < rows * cols || tensor.shape().last() != Some(&cols) {
            return Err(wrong(format!("{:?} {:?}, not float32 [{rows}, {cols}]", tensor.dtype(), tensor.shape())));
        }
        let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let rows = if rows == 0 { size / cols } else { rows };
        Ok(Matrix::new(rows, cols, values.take(rows * cols).collect()))
    };
    let (width, inner) = (bert.hidden_size, bert.intermediate_size);
    let config = Config {
        vocabulary: kept.len(),
        positions: positions.min(bert.max_position_embeddings),
        width,
        layers: layers.unwrap_or(bert.num_hidden_layers).min(bert.num_hidden_layers),
        heads: bert.num_attention_heads,
        inner,
    };
    let mut encoder = Encoder::zeros(&config);
    let words = get("embeddings.word_embeddings.weight", 0, width)?;
    for (row, &old) in kept.iter().enumerate() {
        if old >= words.rows {
            return Err(form("tokenizer.json", format!("id {old} has no embedding")));
        }
        encoder.words.row_mut(row).copy_from_slice(words.row(old));
    }
    encoder.positions = get("embeddings.position_embeddings.weight", config.positions, width)?;
    let first = get("embeddings.token_type_embeddings.weight", 1, width)?;
    super::math::add_row(&mut encoder.positions, &first);
    encoder.norm.gain = get("embeddings.LayerNorm.weight", 1, width)?;
    encoder.norm.bias = get("embeddings.LayerNorm.bias", 1, width)?;
    for (i, layer) in encoder.layers.iter_mut().enumerate() {
        let linear = |name: &str, input: usize, output: usize| -> Result<(Matrix, Matrix), Error> {
            let weight = get(&format!("encoder.layer.{i}.{name}.weight"), output, input)?.transposed();
            Ok((weight, get(&format!("encoder.layer.{i}.{name}.bias"), 1, output)?))
        };
        for (block, name) in ["query", "key", "value"].into_iter().enumerate() {
            let (weight, bias) = linear(&format!("attention.self.{name}"), width, width)?;
            for row in 0..width {
                let columns = block * width..(block + 1) * width;
                layer.qkv.weight.row_mut(row)[columns].copy_from_slice(weight.row(row));
            }
            layer.qkv.bias.data[block * width..(block + 1) * width].copy_from_slice(&bias.data);
        }
        (layer.out.weight, layer.out.bias) = linear("attention.output.dense", width, width)?;
        (layer.up.weight, layer.up.bias) = linear("intermediate.dense", width, inner)?;
        (layer.down.weight, layer.down.bias) = linear("output.dense", inner, width)?;
        for (norm, name) in [(&mut layer.norm1, "attention.output"), (&mut layer.norm2, "output")] {
            norm.gain = get(&format!("encoder.layer.{i}.{name}.LayerNorm.weight"), 1, width)?;
            norm.bias = get(&format!("encoder.layer.{i}.{name}.LayerNorm.bias"), 1, width)?;
        }
    }
    Ok((encoder, tokenizer))
}

/// A tokenizer with the special tokens first, then the word pieces that are kept, and for each new id the old one.
fn cut<'a>(
    mut full: Value,
    vocabulary: usize,
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<(Tokenizer, Vec<usize>), String> {
    // The published file cuts and pads to 128 tokens; batches and windows are ours.
    full["truncation"] = Value::Null;
    full["padding"] = Value::Null;
    let vocab: HashMap<String, usize> =
        serde_json::from_value(full["model"]["vocab"].clone()).map_err(|e| format!("its vocabulary: {e}"))?;
    let parse = |value: &Value| value.to_string().parse::<Tokenizer>().map_err(|e| e.to_string());
    let whole = parse(&full)?;
    let mut used: BTreeSet<usize> = BTreeSet::new();
    for text in texts {
        let encoding = whole.encode_fast(text, false).map_err(|e| e.to_string())?;
        used.extend(encoding.get_ids().iter().map(|id| *id as usize));
    }
    let mut pieces: Vec<(usize, &String)> = vocab.iter().map(|(piece, id)| (*id, piece)).collect();
    pieces.sort_unstable();
    let ordinary = |piece: &str| !piece.starts_with('[') || piece.len() == 1;
    let single = |piece: &str| piece.trim_start_matches("##").chars().count() <= 1;
    let mut ids: BTreeSet<usize> = pieces
        .iter()
        .filter(|(id, piece)| ordinary(piece) && (used.contains(id) || piece.is_ascii() && single(piece)))
        .map(|(id, _)| *id)
        .collect();
    for (id, piece) in &pieces {
        if ids.len() + SPECIAL.len() + MARKERS.len() >= vocabulary {
            break;
        }
        if ordinary(piece) && piece.is_ascii() {
            ids.insert(*id);
        }
    }
    let old = |piece: &str| vocab.get(piece).copied().ok_or_else(|| format!("it has no word piece {piece}"));
    let (mut names, mut kept) = (Vec::new(), Vec::new());
    for name in SPECIAL {
        names.push(name.to_string());
        kept.push(old(name)?);
    }
    for (marker, word) in MARKERS {
        names.push(marker.to_string());
        kept.push(old(word)?);
    }
    let by_id: HashMap<usize, &String> = pieces.iter().copied().collect();
    for id in ids {
        if let Some(piece) = by_id.get(&id).filter(|piece| !SPECIAL.contains(&piece.as_str())) {
            names.push((*piece).clone());
            kept.push(id);
        }
    }
    settle(&mut full, &names);
    Ok((parse(&full)?, kept))
}

/// Puts a vocabulary, the special tokens first, into a tokenizer's description.
fn settle(description: &mut Value, names: &[String]) {
    let vocab: serde_json::Map<String, Value> =
        names.iter().enumerate().map(|(id, name)| (name.clone(), json!(id))).collect();
    description["model"]["vocab"] = Value::Object(vocab);
    let added = names.iter().take(SPECIAL.len() + MARKERS.len()).enumerate().map(|(id, name)| {
        json!({ "id": id, "content": name, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false })
    });
    description["added_tokens"] = added.collect();
    let special = |name: &str, id: usize| json!({ "id": name, "ids": [id], "tokens": [name] });
    description["post_processor"]["special_tokens"] =
        json!({ "[CLS]": special("[CLS]", 2), "[SEP]": special("[SEP]", 3) });
}

/// A BERT tokenizer over the given words and all single ASCII characters: for a network that starts from nothing.
///
/// # Errors
/// What the tokenizer's library says of the vocabulary.
pub fn tokenizer_of(words: &[&str]) -> Result<Tokenizer, String> {
    let characters = (33u8..127).filter(|c| !c.is_ascii_uppercase()).map(|c| char::from(c).to_string());
    let mut names: Vec<String> =
        SPECIAL.iter().chain(MARKERS.iter().map(|(name, _)| name)).map(|s| s.to_string()).collect();
    for piece in characters.flat_map(|c| [format!("##{c}"), c]).chain(words.iter().map(|w| w.to_string())) {
        if !names.contains(&piece) {
            names.push(piece);
        }
    }
    let part = |id: &str| json!({ "SpecialToken": { "id": id, "type_id": 0 } });
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    let mut description = json!({
        "version": "1.0",
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": { "type": "TemplateProcessing", "single": [part("[CLS]"), text, part("[SEP]")], "pair": [] },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100 }
    });
    settle(&mut description, &names);
    description.to_string().parse::<Tokenizer>().map_err(|e| e.to_string())
}
