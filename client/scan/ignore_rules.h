// Exclusion patterns with the meaning git gives to a .gitignore file, to the letter (the test compares with `git
// check-ignore`). Pure: no system calls. Immutable after construction, so any thread may match.
#ifndef HOLDFAST_CLIENT_SCAN_IGNORE_RULES_H_
#define HOLDFAST_CLIENT_SCAN_IGNORE_RULES_H_

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast {

// One line, compiled.
class IgnorePattern {
 public:
  // `line` has no line end and is not empty or a comment.
  explicit IgnorePattern(std::string_view line);
  // `path` is relative to the directory the pattern belongs to, components joined by '/';
  // `name_offset` is where its last component starts. Time is at most proportional to pattern times
  // path: no pattern explodes.
  bool Matches(std::string_view path, size_t name_offset, bool is_directory) const;
  bool negated() const { return negated_; }

 private:
  struct Token {
    enum class Kind : uint8_t {
      kLiteral,      // one byte
      kAny,          // ?
      kSet,          // [...]
      kNever,        // malformed: matches nothing
      kStar,         // bytes other than '/'
      kStarAll,      // any bytes
      kDirectories,  // "**/": nothing, or any bytes up to and including a '/'
    };
    Kind kind;
    uint8_t byte = 0;
    uint32_t set = 0;
  };
  void Compile(std::string_view pattern);
  size_t CompileSet(std::string_view pattern, size_t i);
  bool MatchTokens(std::string_view text) const;
  bool MatchOne(const Token& token, uint8_t byte) const;

  bool negated_ = false;
  bool directories_only_ = false;
  bool name_only_ = false;  // no '/' inside: compared with the last component alone
  std::string literal_;     // leading bytes without wildcards; of a suffix pattern ("*.o") what
                            // follows the star
  bool suffix_ = false;
  bool literal_only_ = false;  // nothing follows literal_
  std::vector<Token> tokens_;
  std::vector<std::bitset<256>> sets_;
};

enum class IgnoreVerdict : uint8_t { kNone, kExclude, kInclude };

// The lines of one file (or of the command line): the last one that matches decides.
class IgnoreList {
 public:
  IgnoreList() = default;
  // The contents of an ignore file: '#' comments, '\' escapes, unescaped trailing blanks dropped,
  // CR LF accepted.
  static IgnoreList Parse(std::string_view text);
  void AddLine(std::string_view line);
  bool empty() const { return patterns_.empty(); }
  IgnoreVerdict Match(std::string_view path, size_t name_offset, bool is_directory) const;

 private:
  std::vector<IgnorePattern> patterns_;
};

// The lists that apply in one directory: its own, then those of the directories above, nearest first. Whoever walks
// never enters an excluded directory; that is why nothing below one can be included again.
class IgnoreChain {
 public:
  // `directory_path`: relative to the root of the walk, "" for the root itself.
  // `text_bytes`: of the file that `list` is from.
  IgnoreChain(std::shared_ptr<const IgnoreChain> above, std::string_view directory_path, IgnoreList list,
              uint64_t text_bytes)
      : above_(std::move(above)),
        base_size_(directory_path.empty() ? 0 : directory_path.size() + 1),
        list_(std::move(list)),
        text_bytes_(text_bytes + (above_ == nullptr ? 0 : above_->text_bytes_)) {}
  ~IgnoreChain();
  // Of its own file and of those above: what the chain takes in memory is at most about 100 times that.
  uint64_t text_bytes() const { return text_bytes_; }
  // `path` is relative to the root of the walk.
  IgnoreVerdict Match(std::string_view path, size_t name_offset, bool is_directory) const;

 private:
  std::shared_ptr<const IgnoreChain> above_;
  const size_t base_size_;
  const IgnoreList list_;
  const uint64_t text_bytes_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_SCAN_IGNORE_RULES_H_
