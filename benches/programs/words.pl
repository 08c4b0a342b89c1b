# Words in hashes of arrays, and strings put together.
use strict;
use warnings;

my ($seed, $text, %by_length) = (1, q());
for my $round (1 .. 300_000) {
    $seed = ($seed * 1103515245 + 12345) % 2147483648;
    my $word = sprintf('%x', $seed) x (1 + $seed % 3);
    push @{ $by_length{ length $word }{ substr $word, 0, 2 } }, $word;
    $text .= "$word ";
    $text = '' if $round % 10_000 == 0;
}
my $words = 0;
for my $length (sort { $a <=> $b } keys %by_length) {
    $words += scalar map { [reverse split //] } @{ $by_length{$length}{$_} } for keys %{ $by_length{$length} };
}
print "$words\n";
