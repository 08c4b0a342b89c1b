// Many instances of the standard library's templates: what a compiler spends its memory on.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N> struct Level {
    std::map<std::string, std::vector<std::tuple<int, double, std::string>>> tables;
    std::unordered_map<int, std::shared_ptr<Level<N - 1>>> below;
    std::variant<int, std::string, std::set<std::pair<int, std::string>>> value;
    std::function<int(Level<N - 1> &)> visit;

    int sum() {
        int total = N;
        for (auto &[name, rows] : tables) {
            std::sort(rows.begin(), rows.end());
            total += static_cast<int>(name.size() + rows.size());
        }
        for (auto &[number, next] : below) total += next->sum() + (visit ? visit(*next) : number);
        return total;
    }
};

template <> struct Level<0> {
    int sum() { return std::regex_search(std::string("abc"), std::regex("b+")) ? 1 : 0; }
};

int main() { return Level<4>().sum(); }
