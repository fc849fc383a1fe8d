#include "client/scan/ignore_rules.h"

#include <cstring>
#include <utility>

namespace holdfast {
namespace {

bool IsWildcard(char c) { return c == '*' || c == '?' || c == '[' || c == '\\'; }

size_t LiteralLength(std::string_view s) {
  size_t n = 0;
  while (n < s.size() && !IsWildcard(s[n])) ++n;
  return n;
}

// Without the blanks at the end, except those that a backslash protects.
std::string_view DropTrailingBlanks(std::string_view line) {
  size_t keep = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\\') {
      if (++i == line.size()) return line;
      keep = i + 1;
    } else if (line[i] != ' ') {
      keep = i + 1;
    }
  }
  return line.substr(0, keep);
}

// [:name:] over ASCII; false = no such class.
bool AddNamedClass(std::string_view name, std::bitset<256>* set) {
  auto in = [](int c, int lo, int hi) { return c >= lo && c <= hi; };
  auto alpha = [&](int c) { return in(c, 'a', 'z') || in(c, 'A', 'Z'); };
  auto digit = [&](int c) { return in(c, '0', '9'); };
  auto graph = [&](int c) { return in(c, 0x21, 0x7e); };
  bool known = true;
  for (int c = 0; c < 128; ++c) {
    bool hit = false;
    if (name == "alnum")
      hit = alpha(c) || digit(c);
    else if (name == "alpha")
      hit = alpha(c);
    else if (name == "blank")
      hit = c == ' ' || c == '\t';
    else if (name == "cntrl")
      hit = c < 0x20 || c == 0x7f;
    else if (name == "digit")
      hit = digit(c);
    else if (name == "graph")
      hit = graph(c);
    else if (name == "lower")
      hit = in(c, 'a', 'z');
    else if (name == "print")
      hit = graph(c) || c == ' ';
    else if (name == "punct")
      hit = graph(c) && !alpha(c) && !digit(c);
    else if (name == "space")
      hit = c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f';
    else if (name == "upper")
      hit = in(c, 'A', 'Z');
    else if (name == "xdigit")
      hit = digit(c) || in(c, 'a', 'f') || in(c, 'A', 'F');
    else
      known = false;
    if (hit) set->set(c);
  }
  return known;
}

}  // namespace

IgnorePattern::IgnorePattern(std::string_view line) {
  if (line.starts_with('!')) {
    negated_ = true;
    line.remove_prefix(1);
  }
  if (line.ends_with('/')) {
    directories_only_ = true;
    line.remove_suffix(1);
  }
  name_only_ = line.find('/') == std::string_view::npos;
  if (name_only_ && line.starts_with('*') && LiteralLength(line.substr(1)) == line.size() - 1) {
    suffix_ = true;
    literal_ = line.substr(1);
    return;
  }
  if (!name_only_ && line.starts_with('/')) line.remove_prefix(1);
  size_t n = LiteralLength(line);
  // A name pattern is matched as a whole; of a path pattern git matches the literal beginning first and then treats the
  // rest as a pattern of its own, which is visible in where "**" counts as a whole component.
  if (!name_only_ || n == line.size()) {
    literal_ = line.substr(0, n);
    line.remove_prefix(n);
    literal_only_ = line.empty();
  }
  if (!line.empty()) Compile(line);
}

void IgnorePattern::Compile(std::string_view p) {
  using Kind = Token::Kind;
  for (size_t i = 0; i < p.size();) {
    uint8_t c = static_cast<uint8_t>(p[i]);
    if (c == '\\') {
      if (i + 1 == p.size()) {
        tokens_.push_back({Kind::kNever});
        return;
      }
      tokens_.push_back({Kind::kLiteral, static_cast<uint8_t>(p[i + 1])});
      i += 2;
    } else if (c == '?') {
      tokens_.push_back({Kind::kAny});
      ++i;
    } else if (c == '[') {
      i = CompileSet(p, i);
    } else if (c == '*') {
      size_t begin = i;
      while (i < p.size() && p[i] == '*') ++i;
      std::string_view rest = p.substr(i);
      bool whole_component = i - begin >= 2 && (begin == 0 || p[begin - 1] == '/') &&
                             (rest.empty() || rest[0] == '/' || rest.starts_with("\\/"));
      if (name_only_) {
        tokens_.push_back({Kind::kStarAll});
      } else if (whole_component && rest.starts_with('/')) {
        tokens_.push_back({Kind::kDirectories});
        ++i;
      } else {
        tokens_.push_back({whole_component ? Kind::kStarAll : Kind::kStar});
      }
    } else {
      tokens_.push_back({Kind::kLiteral, c});
      ++i;
    }
  }
}

// p[i] is '['. Returns where the pattern goes on.
size_t IgnorePattern::CompileSet(std::string_view p, size_t i) {
  auto malformed = [&] {
    tokens_.push_back({Token::Kind::kNever});
    return p.size();
  };
  ++i;
  bool complement = i < p.size() && (p[i] == '!' || p[i] == '^');
  if (complement) ++i;
  std::bitset<256> set;
  int previous = -1;  // what a range could start from
  for (bool first = true;; first = false) {
    if (i >= p.size()) return malformed();
    uint8_t c = static_cast<uint8_t>(p[i]);
    if (c == ']' && !first) break;
    if (c == '\\') {
      if (++i >= p.size()) return malformed();
      previous = static_cast<uint8_t>(p[i]);
      set.set(previous);
      ++i;
    } else if (c == '-' && previous >= 0 && i + 1 < p.size() && p[i + 1] != ']') {
      if (p[++i] == '\\' && ++i >= p.size()) return malformed();
      for (int b = previous; b <= static_cast<uint8_t>(p[i]); ++b) set.set(b);
      previous = -1;
      ++i;
    } else if (c == '[' && i + 1 < p.size() && p[i + 1] == ':') {
      size_t close = p.find(']', i + 2);
      if (close == std::string_view::npos) return malformed();
      if (close == i + 2 || p[close - 1] != ':') {  // not a class after all: an ordinary '['
        set.set('[');
        previous = '[';
        ++i;
        continue;
      }
      if (!AddNamedClass(p.substr(i + 2, close - 1 - (i + 2)), &set)) return malformed();
      previous = -1;
      i = close + 1;
    } else {
      set.set(c);
      previous = c;
      ++i;
    }
  }
  if (complement) set.flip();
  set.reset('/');
  tokens_.push_back({Token::Kind::kSet, 0, static_cast<uint32_t>(sets_.size())});
  sets_.push_back(set);
  return i + 1;
}

bool IgnorePattern::MatchOne(const Token& token, uint8_t byte) const {
  switch (token.kind) {
    case Token::Kind::kLiteral:
      return token.byte == byte;
    case Token::Kind::kAny:
      return byte != '/';
    case Token::Kind::kSet:
      return sets_[token.set].test(byte);
    default:
      return false;
  }
}

// On a mismatch it is enough to let the nearest star take one byte more and, when that star meets a '/', the nearest
// star of the slash-crossing kinds: what an earlier one could take, a later one can take as well.
bool IgnorePattern::MatchTokens(std::string_view text) const {
  constexpr size_t kNone = static_cast<size_t>(-1);
  size_t t = 0, i = 0;
  size_t star = kNone, star_end = 0, wide = kNone, wide_end = 0;
  while (true) {
    if (t < tokens_.size()) {
      const Token& token = tokens_[t];
      if (token.kind == Token::Kind::kStar) {
        star = t++;
        star_end = i;
        continue;
      }
      if (token.kind == Token::Kind::kStarAll || token.kind == Token::Kind::kDirectories) {
        wide = t++;
        wide_end = i;
        star = kNone;
        continue;
      }
      if (i < text.size() && MatchOne(token, static_cast<uint8_t>(text[i]))) {
        ++t;
        ++i;
        continue;
      }
    } else if (i == text.size()) {
      return true;
    }
    if (star != kNone && star_end < text.size() && text[star_end] != '/') {
      i = ++star_end;
      t = star + 1;
      continue;
    }
    if (wide == kNone || wide_end >= text.size()) return false;
    if (tokens_[wide].kind == Token::Kind::kDirectories) {
      size_t slash = text.find('/', wide_end);
      if (slash == std::string_view::npos) return false;
      wide_end = slash + 1;
    } else {
      ++wide_end;
    }
    i = wide_end;
    t = wide + 1;
    star = kNone;
  }
}

bool IgnorePattern::Matches(std::string_view path, size_t name_offset, bool is_directory) const {
  if (directories_only_ && !is_directory) return false;
  if (name_only_) path.remove_prefix(name_offset);
  if (suffix_) return path.ends_with(literal_);
  if (literal_only_) return path == literal_;
  if (!path.starts_with(literal_)) return false;
  if (tokens_.empty()) return false;  // "/" alone
  return MatchTokens(path.substr(literal_.size()));
}

void IgnoreList::AddLine(std::string_view line) {
  line = line.substr(0, line.find('\0'));
  if (line.empty() || line[0] == '#') return;
  line = DropTrailingBlanks(line);
  patterns_.emplace_back(line);
}

IgnoreList IgnoreList::Parse(std::string_view text) {
  IgnoreList list;
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  while (!text.empty()) {
    size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    list.AddLine(line);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return list;
}

IgnoreVerdict IgnoreList::Match(std::string_view path, size_t name_offset, bool is_directory) const {
  for (size_t k = patterns_.size(); k-- > 0;) {
    if (patterns_[k].Matches(path, name_offset, is_directory)) {
      return patterns_[k].negated() ? IgnoreVerdict::kInclude : IgnoreVerdict::kExclude;
    }
  }
  return IgnoreVerdict::kNone;
}

// As many may hang on each other as directories are nested: let them go in a loop, not one destructor inside the other.
IgnoreChain::~IgnoreChain() {
  thread_local std::vector<std::shared_ptr<const IgnoreChain>>* dying = nullptr;
  if (above_ == nullptr) return;
  if (dying != nullptr) {
    dying->push_back(std::move(above_));
    return;
  }
  std::vector<std::shared_ptr<const IgnoreChain>> chains;
  dying = &chains;
  chains.push_back(std::move(above_));
  while (!chains.empty()) {
    std::shared_ptr<const IgnoreChain> last = std::move(chains.back());
    chains.pop_back();
    last.reset();
  }
  dying = nullptr;
}

IgnoreVerdict IgnoreChain::Match(std::string_view path, size_t name_offset, bool is_directory) const {
  for (const IgnoreChain* c = this; c != nullptr; c = c->above_.get()) {
    IgnoreVerdict v = c->list_.Match(path.substr(c->base_size_), name_offset - c->base_size_, is_directory);
    if (v != IgnoreVerdict::kNone) return v;
  }
  return IgnoreVerdict::kNone;
}

}  // namespace holdfast
