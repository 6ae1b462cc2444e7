SELECT * FROM source WHERE (true)
