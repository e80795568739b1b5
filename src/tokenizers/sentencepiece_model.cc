#include "tokenizers/sentencepiece_model.h"

#include <fmt/format.h>

#include <bit>

#include "base/error.h"
#include "tokenizers/utf8.h"

namespace dither {
namespace {

// Field numbers of sentencepiece_model.proto.
constexpr std::uint64_t kModelPieces = 1;
constexpr std::uint64_t kModelTrainerSpec = 2;
constexpr std::uint64_t kModelNormalizerSpec = 3;
constexpr std::uint64_t kPieceText = 1;
constexpr std::uint64_t kPieceScore = 2;
constexpr std::uint64_t kPieceType = 3;
constexpr std::uint64_t kTrainerModelType = 3;
constexpr std::uint64_t kTrainerUnkId = 40;
constexpr std::uint64_t kNormalizerCharsmap = 2;

enum class WireType : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct Field {
  std::uint64_t number = 0;
  WireType type = WireType::kVarint;
  std::uint64_t value = 0;  // kVarint, kFixed32
  std::string_view bytes;   // kBytes
};

// Reads the fields of one protobuf message, in order.
class MessageReader {
 public:
  // `offset` is where the message starts in the file, for errors.
  MessageReader(std::string_view bytes, std::size_t offset, const std::string& where)
      : bytes_(bytes), offset_(offset), where_(where) {}

  bool next(Field& field) {
    if (position_ == bytes_.size()) return false;
    const std::uint64_t key = varint();
    field = {key >> 3U, static_cast<WireType>(key & 7U), 0, {}};
    switch (field.type) {
      case WireType::kVarint:
        field.value = varint();
        return true;
      case WireType::kFixed64:
        take(8);
        return true;
      case WireType::kFixed32: {
        const std::string_view raw = take(4);
        for (std::size_t i = 0; i < 4; ++i) {
          field.value |= std::uint64_t{static_cast<unsigned char>(raw[i])} << (8 * i);
        }
        return true;
      }
      case WireType::kBytes:
        field.bytes = take(varint());
        return true;
    }
    fail(fmt::format("has wire type {}", key & 7U));
  }

  // A field's own message.
  MessageReader message(const Field& field) const {
    expect(field, WireType::kBytes);
    return {field.bytes, offset_ + static_cast<std::size_t>(field.bytes.data() - bytes_.data()),
            where_};
  }

  void expect(const Field& field, WireType type) const {
    if (field.type != type) fail(fmt::format("has field {} of the wrong type", field.number));
  }

  [[noreturn]] void fail(const std::string& problem) const {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: not a SentencePiece model: byte {} {}",
                                                  where_, offset_ + position_, problem));
  }

 private:
  std::uint64_t varint() {
    std::uint64_t result = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      result |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return result;
    }
    fail("ends a number of more than 10 bytes");
  }

  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size() - position_) {
      fail(fmt::format("is followed by {} bytes, {} were announced", bytes_.size() - position_,
                       count));
    }
    const std::string_view taken = bytes_.substr(position_, count);
    position_ += count;
    return taken;
  }

  std::string_view bytes_;
  std::size_t offset_;
  const std::string& where_;
  std::size_t position_ = 0;
};

void read_piece(MessageReader reader, SentencePieceModel& model) {
  Piece piece;
  auto type = SentencePieceModel::PieceType::kNormal;
  for (Field field; reader.next(field);) {
    if (field.number == kPieceText) {
      reader.expect(field, WireType::kBytes);
      piece.text = field.bytes;
    } else if (field.number == kPieceScore) {
      reader.expect(field, WireType::kFixed32);
      piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field.value));
    } else if (field.number == kPieceType) {
      reader.expect(field, WireType::kVarint);
      if (field.value < 1 || field.value > 6) {
        reader.fail(fmt::format("follows piece type {}, outside 1..6", field.value));
      }
      type = static_cast<SentencePieceModel::PieceType>(field.value);
    }
  }
  if (find_invalid_utf8(piece.text)) {
    reader.fail(fmt::format("ends piece {}, which is not UTF-8", model.pieces.size()));
  }
  model.pieces.push_back(std::move(piece));
  model.types.push_back(type);
}

void read_trainer_spec(MessageReader reader, SentencePieceModel& model) {
  for (Field field; reader.next(field);) {
    if (field.number == kTrainerModelType) {
      reader.expect(field, WireType::kVarint);
      if (field.value < 1 || field.value > 4) {
        reader.fail(fmt::format("follows model type {}, outside 1..4", field.value));
      }
      model.algorithm = static_cast<SentencePieceModel::Algorithm>(field.value);
    } else if (field.number == kTrainerUnkId) {
      reader.expect(field, WireType::kVarint);
      model.unk_id = field.value;
    }
  }
}

void read_normalizer_spec(MessageReader reader, SentencePieceModel& model) {
  for (Field field; reader.next(field);) {
    if (field.number != kNormalizerCharsmap) continue;
    reader.expect(field, WireType::kBytes);
    model.precompiled_charsmap = field.bytes;
  }
}

}  // namespace

SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& where) {
  SentencePieceModel model;
  MessageReader reader(bytes, 0, where);
  for (Field field; reader.next(field);) {
    if (field.number == kModelPieces) read_piece(reader.message(field), model);
    if (field.number == kModelTrainerSpec) read_trainer_spec(reader.message(field), model);
    if (field.number == kModelNormalizerSpec) read_normalizer_spec(reader.message(field), model);
  }
  if (model.pieces.empty()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: a SentencePiece model without pieces", where));
  }
  return model;
}

}  // namespace dither
