# Words in hashes of arrays, mapped, sorted and joined.
random = Random.new(1)
groups = Hash.new { |hash, key| hash[key] = [] }
500_000.times do |number|
  word = random.rand(36**6).to_s(36) * (1 + number % 3)
  groups[word[0, 2]] << word
  groups.delete(groups.keys.first) if number % 500 == 0
end
lines = groups.map { |key, words| "#{key}: #{words.sort.map(&:reverse).join(', ')}" }
puts lines.sum(&:size)
